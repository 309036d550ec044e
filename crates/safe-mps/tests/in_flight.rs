//! Memory between `encode` and the end of the work: refused to the host and to other command
//! buffers, kept alive, and free again whether or not anybody waits.
#![cfg(feature = "metal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use safe_mps::{Buffer, CommandBuffer, Device, Error, Holder, Pending, Queue, Result, Storage};

fn device() -> Device {
    Device::system_default().unwrap()
}

fn pair(device: &Device) -> [Buffer; 2] {
    std::array::from_fn(|_| device.new_buffer(16, Storage::Shared).unwrap())
}

fn holder(result: Result<impl Sized>) -> Holder {
    match result.err() {
        Some(Error::Busy { by, .. }) => by,
        other => panic!("expected Busy, got {other:?}"),
    }
}

/// Waits for the queue by other means than the `Pending` in question.
fn drain(queue: &Queue) {
    queue.command_buffer().unwrap().commit().wait().unwrap();
}

/// Another test's thread may be the one that lets go, a moment later.
fn soon(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "still not so");
        std::thread::yield_now();
    }
}

#[test]
fn from_encode_to_completion_the_host_has_no_view() {
    let device = device();
    let [from, to] = pair(&device);
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    commands.copy(&from, 0, &to, 0, 16).unwrap();
    assert_eq!(holder(from.read::<u8>()), Holder::OpenCommandBuffer);
    assert_eq!(holder(to.write::<u8>()), Holder::OpenCommandBuffer);
    let completed = commands.commit().wait().unwrap();
    assert_eq!(completed.operations(), 1);
    assert!(from.read::<u8>().is_ok() && to.write::<u8>().is_ok());
}

#[test]
fn encode_is_refused_while_the_host_has_a_view() {
    let device = device();
    let [from, to] = pair(&device);
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    let view = to.read::<u8>().unwrap();
    let refused = commands.copy(&from, 0, &to, 0, 16);
    let by = Holder::HostReads(1);
    assert_eq!(
        refused,
        Err(Error::Busy {
            op: "copy",
            operand: "destination",
            by
        })
    );
    // The refusal has left nothing behind, neither here nor on the other operand.
    assert_eq!(commands.operations(), 0);
    assert!(from.write::<u8>().is_ok());
    drop(view);
    commands.copy(&from, 0, &to, 0, 16).unwrap();
    commands.commit().wait().unwrap();
}

#[test]
fn one_command_buffer_at_a_time() {
    let device = device();
    let queue = device.new_queue().unwrap();
    let [from, to] = pair(&device);
    let (first, second) = (
        queue.command_buffer().unwrap(),
        queue.command_buffer().unwrap(),
    );
    first.copy(&from, 0, &to, 0, 16).unwrap();
    first.copy(&from, 0, &to, 0, 16).unwrap();
    assert_eq!(
        holder(second.copy(&from, 0, &to, 0, 16)),
        Holder::OpenCommandBuffer
    );
    first.commit().wait().unwrap();
    second.copy(&from, 0, &to, 0, 16).unwrap();
    second.commit().wait().unwrap();
}

#[test]
fn dropping_without_commit_cancels_and_releases() {
    let device = device();
    let [from, to] = pair(&device);
    from.write::<u32>().unwrap().fill(9);
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    commands.copy(&from, 0, &to, 0, 16).unwrap();
    drop(commands);
    assert_eq!(to.read::<u32>().unwrap()[..], [0; 4]);
}

#[test]
fn a_forgotten_command_buffer_keeps_what_it_uses() {
    let device = device();
    let [from, to] = pair(&device);
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    commands.copy(&from, 0, &to, 0, 16).unwrap();
    std::mem::forget(commands);
    assert_eq!(holder(to.read::<u8>()), Holder::OpenCommandBuffer);
}

#[test]
fn dropped_and_forgotten_pendings_release_when_the_work_is_over() {
    let device = device();
    let queue = device.new_queue().unwrap();
    for forget in [false, true] {
        let owner = Arc::new(());
        let [from, to] = pair(&device);
        from.write::<u32>().unwrap().fill(9);
        let commands = queue.command_buffer().unwrap();
        commands
            .copy(&from.clone().with_owner(owner.clone()), 0, &to, 0, 16)
            .unwrap();
        drop(from);
        assert_eq!(Arc::strong_count(&owner), 2);
        let pending = commands.commit();
        if forget {
            std::mem::forget(pending);
        } else {
            drop(pending);
        }
        drain(&queue);
        soon(|| Arc::strong_count(&owner) == 1);
        assert_eq!(to.read::<u32>().unwrap()[..], [9; 4]);
    }
}

#[test]
fn is_done_follows_the_gpu() {
    let device = device();
    let queue = device.new_queue().unwrap();
    let [from, to] = pair(&device);
    let commands = queue.command_buffer().unwrap();
    commands.copy(&from, 0, &to, 0, 16).unwrap();
    let pending = commands.commit();
    drain(&queue);
    assert!(pending.is_done());
    pending.wait().unwrap();
}

#[test]
fn tracked_buffers_may_depend_on_each_other() {
    let device = device();
    let [first, second] = pair(&device);
    let third = device.new_buffer(16, Storage::Private).unwrap();
    first.write::<u32>().unwrap().copy_from_slice(&[1, 2, 3, 4]);
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    commands.copy(&first, 0, &third, 0, 16).unwrap();
    commands.copy(&third, 0, &second, 0, 16).unwrap();
    assert_eq!(commands.commit().wait().unwrap().operations(), 2);
    assert_eq!(second.read::<u32>().unwrap()[..], [1, 2, 3, 4]);
}

#[test]
fn command_buffers_and_pendings_may_move_to_another_thread() {
    fn moves<T: Send>() {}
    moves::<CommandBuffer>();
    moves::<Pending>();
}
