//! Candle's own stream, by several threads. It is silent, but for one place: `flush_and_wait`, which is
//! `Device::synchronize`, forgets the fences of all encoders when its wait has ended, without holding the lock. What
//! another thread has committed meanwhile is forgotten with them, and nothing orders its readers.

use crate::candle::{SIDE, Stream};
use crate::{Asked, Score};
use candle_core::Tensor;
use metal_sim::Work;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCommandBuffer, MTLCommandQueue, MTLSharedEvent};
use std::time::{Duration, Instant};

/// By then another thread has got to where it waits.
const SOON: Duration = Duration::from_secs(60);

pub fn run(asked: &Asked, stream: &Stream) -> Score {
    let mut score = Score::default();
    score.case(asked, "candle/threads", || {
        asked.check().run(|| autoreleasepool(|_| threads(stream)));
    });
    score.case(asked, "candle/threads-and-synchronize", || {
        let forgetful = asked.check().seeds(0..2);
        let found = forgetful.expect_in_each("barrier orders encoder “blit_to_cpu” after");
        found.run(|| autoreleasepool(|_| synchronize_beside(stream, false)));
        let patient = asked.check().seeds(0..2);
        patient.run(|| autoreleasepool(|_| synchronize_beside(stream, true)));
    });
    score
}

/// Several threads on one device, none of which waits for all of it.
fn threads(stream: &Stream) {
    let shared = stream.matrix();
    let work = || {
        autoreleasepool(|_| {
            let square = shared.matmul(&shared).unwrap();
            let sum = (&square - &shared).unwrap().sum_all().unwrap();
            let first = sum.to_scalar::<f32>().unwrap();
            let again = (square.sum_all().unwrap() - shared.sum_all().unwrap()).unwrap();
            assert_eq!(again.to_scalar::<f32>().unwrap(), first);
        });
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..3).for_each(|_| work()));
        }
    });
}

/// Once so many waits of the CPU have begun, each behind its commit.
fn until_waits(count: u64) {
    let start = Instant::now();
    while Work::so_far().cpu_waits < count {
        assert!(start.elapsed() < SOON, "another thread waits");
        std::thread::yield_now();
    }
}

/// A thread waits for the device while another goes on. If `patient`, that one begins when the wait is over.
fn synchronize_beside(stream: &Stream, patient: bool) {
    let gates = [stream.gpu.shared_event(), stream.gpu.shared_event()];
    // Buffers of a queue complete in order, so a gate between Candle's says when the next one does.
    let gate = |at: usize| {
        let commands = stream.queue.commandBuffer().unwrap();
        commands.encodeWaitForEvent_value(ProtocolObject::from_ref(&*gates[at]), 1);
        commands.commit();
    };
    let before = stream.matrix();
    let after = std::thread::scope(|scope| {
        gate(0);
        let waits = Work::so_far().cpu_waits;
        let waiter = scope.spawn(|| autoreleasepool(|_| stream.device.synchronize().unwrap()));
        until_waits(waits + 1);
        if patient {
            gates[0].setSignaledValue(1);
            waiter.join().unwrap();
            gate(1);
            let after = (&before * 3.0).unwrap();
            stream.flush();
            return after;
        }
        gate(1);
        let after = (&before * 3.0).unwrap();
        stream.flush();
        gates[0].setSignaledValue(1);
        waiter.join().unwrap();
        after
    });
    let waits = Work::so_far().cpu_waits;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until_waits(waits + 1);
            gates[1].setSignaledValue(1);
        });
        read(&after);
    });
}

fn read(tensor: &Tensor) {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(values.len(), SIDE * SIDE);
}
