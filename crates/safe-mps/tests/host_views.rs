//! Views of the host: many that read or one that writes, and a forgotten one permits nothing.
#![cfg(feature = "metal")]

use safe_mps::{Buffer, Device, Error, Holder, HostRead, HostWrite, Storage};

fn device() -> Device {
    Device::system_default().unwrap()
}

fn busy(op: &'static str, by: Holder) -> Error {
    Error::Busy {
        op,
        operand: "buffer",
        by,
    }
}

#[test]
fn shared_buffers_start_zeroed_and_hold_what_is_written() {
    let buffer = device().new_buffer(10, Storage::Shared).unwrap();
    assert_eq!(buffer.length(), 10);
    // The two bytes that make no whole element are left out.
    assert_eq!(buffer.read::<f32>().unwrap()[..], [0.0, 0.0]);
    buffer.write::<u16>().unwrap()[4] = 7;
    assert_eq!(
        buffer.clone().read::<u8>().unwrap()[..],
        [0, 0, 0, 0, 0, 0, 0, 0, 7, 0]
    );
}

#[test]
fn lengths_that_metal_refuses() {
    let device = device();
    let zero = device.new_buffer(0, Storage::Shared).err();
    assert_eq!(
        zero,
        Some(Error::ZeroSize {
            op: "new_buffer",
            dimension: "bytes"
        })
    );
    let max = device.max_buffer_length();
    let bytes = max.saturating_add(1);
    let large = device.new_buffer(bytes, Storage::Private).err();
    assert_eq!(large, Some(Error::BufferTooLarge { bytes, max }));
}

#[test]
fn many_readers_or_one_writer() {
    let buffer = device().new_buffer(16, Storage::Shared).unwrap();
    let (first, second) = (buffer.read::<u32>().unwrap(), buffer.read::<f32>().unwrap());
    assert_eq!(
        buffer.write::<u32>().err(),
        Some(busy("write", Holder::HostReads(2)))
    );
    drop(first);
    assert_eq!(
        buffer.write::<u32>().err(),
        Some(busy("write", Holder::HostReads(1)))
    );
    drop(second);
    let writer = buffer.write::<u32>().unwrap();
    assert_eq!(
        buffer.read::<u32>().err(),
        Some(busy("read", Holder::HostWrite))
    );
    assert_eq!(
        buffer.write::<u32>().err(),
        Some(busy("write", Holder::HostWrite))
    );
    drop(writer);
    assert!(buffer.read::<u32>().is_ok());
}

#[test]
fn a_view_outlives_its_buffer() {
    let buffer = device().new_buffer(4, Storage::Shared).unwrap();
    buffer.write::<u32>().unwrap()[0] = 5;
    let view = buffer.read::<u32>().unwrap();
    drop(buffer);
    assert_eq!(view[..], [5]);
}

#[test]
fn forgotten_views_refuse_for_good_and_permit_nothing() {
    let buffer = device().new_buffer(4, Storage::Shared).unwrap();
    std::mem::forget(buffer.read::<u32>().unwrap());
    assert_eq!(
        buffer.write::<u32>().err(),
        Some(busy("write", Holder::HostReads(1)))
    );
    assert!(buffer.read::<u32>().is_ok());
    assert_eq!(
        buffer.write::<u32>().err(),
        Some(busy("write", Holder::HostReads(1)))
    );

    let buffer = device().new_buffer(4, Storage::Shared).unwrap();
    std::mem::forget(buffer.write::<u32>().unwrap());
    assert_eq!(
        buffer.read::<u32>().err(),
        Some(busy("read", Holder::HostWrite))
    );
}

#[test]
fn handles_and_views_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Buffer>();
    crosses::<HostRead<f32>>();
    crosses::<HostWrite<f32>>();
}
