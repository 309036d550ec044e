//! What the simulator itself costs a test: a Candle tensor of 1 KB to the GPU and back, and an
//! empty command buffer. Prints medians and spread; run with
//! `cargo bench -p metal-sim --bench round_trip` in `sim/`.

use candle_core::{Device, Tensor};
use metal_sim as _;
use objc2::rc::autoreleasepool;
use objc2_metal::{MTLCommandBuffer, MTLCommandQueue, MTLCreateSystemDefaultDevice, MTLDevice};
use std::time::{Duration, Instant};

/// What a Candle round trip may cost: tests make thousands.
const ROUND_TRIP_LIMIT: Duration = Duration::from_micros(50);

fn main() {
    let device = Device::new_metal(0).expect("a Metal device");
    let values = [1.5f32; 256];
    let round_trip = || {
        let tensor = Tensor::from_slice(&values, 256, &device).expect("a tensor");
        let back = tensor.to_vec1::<f32>().expect("its values");
        assert_eq!(back[255], 1.5);
    };
    let metal = MTLCreateSystemDefaultDevice().expect("a Metal device");
    let queue = metal.newCommandQueue().expect("a queue");
    let empty = || {
        let commands = queue.commandBuffer().expect("a command buffer");
        commands.commit();
        commands.waitUntilCompleted();
    };
    // In turn, so that a busy moment of the machine hits both.
    let (mut trips, mut empties) = (Vec::new(), Vec::new());
    for round in 0..4000 {
        // Candle 0.11 remembers a fence for each buffer that a read-back wrote, and has each later
        // read-back wait for them all, until somebody waits for the whole device. Its cost is not
        // ours, so that happens now and then, outside the timed part.
        if round % 16 == 0 {
            device.synchronize().expect("the device");
        }
        let times = [timed(&round_trip), timed(&empty)];
        if round >= 500 {
            trips.push(times[0]);
            empties.push(times[1]);
        }
    }
    let trip = report("Candle round trip, 1 KB", trips);
    report("empty command buffer", empties);
    let verdict = if trip <= ROUND_TRIP_LIMIT {
        "within"
    } else {
        "above"
    };
    println!("the round trip is {verdict} its limit of {ROUND_TRIP_LIMIT:?}");
}

fn timed(work: &dyn Fn()) -> Duration {
    autoreleasepool(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    })
}

/// Prints the median and the middle half; returns the median.
fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!(
        "{what}: median {:?}, middle half {:?} to {:?}",
        at(0.5),
        at(0.25),
        at(0.75)
    );
    at(0.5)
}
