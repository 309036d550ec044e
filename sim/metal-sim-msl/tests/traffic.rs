//! The bytes that a kernel touches: each once, however often it is read, to the byte, and nothing that is not touched.

use metal_sim_msl::{
    Binding, Checks, Constants, Dispatch, Grid, Library, Options, Pipeline, Schedule, Traffic,
};

const SOURCE: &str = r#"
#include <metal_stdlib>
using namespace metal;

kernel void twice(device const float* x, device float* y, constant uint& width, uint i [[thread_position_in_grid]]) {
  y[i] = x[i] + x[(i + 1) % width];
}

kernel void half_of_it(device const float* x, device float* y, constant uint& width, uint i [[thread_position_in_grid]]) {
  if (i < width / 2) y[i] = x[i];
}

kernel void every_third_byte(device const uchar* x, device uchar* y, uint i [[thread_position_in_grid]]) {
  y[3 * i] = x[3 * i + 1];
}

kernel void halves(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  y[2 * i + 1] = x[2 * i];
}

kernel void sums(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  y[2 * i + 1] = x[2 * i] + y[2 * i];
}

kernel void fours(device const float4* x, device uchar* y, uint i [[thread_position_in_grid]]) {
  if (i < 4) y[i] = uchar(x[i].x + x[i].w + x[i].y + x[i].z);
}

kernel void in_place(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 2 * x[i]; }

// The second reads are of what this dispatch wrote.
kernel void written_first(device float* x, uint i [[thread_position_in_grid]]) {
  if (i < 8) x[i] = 1;
  threadgroup_barrier(mem_flags::mem_device);
  if (i < 4) x[i + 32] = x[3 - i];
}

// Read by all simdgroups, and written after a barrier.
kernel void read_by_many(device float* x, uint i [[thread_position_in_grid]]) {
  float first = x[0];
  threadgroup_barrier(mem_flags::mem_device);
  if (i == 0) x[0] = first + 1;
}

kernel void counter(device atomic_uint* x, uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&x[0], i, memory_order_relaxed);
  if (i == 0) atomic_store_explicit(&x[1], i, memory_order_relaxed);
}

kernel void scratch(device float* x, uint i [[thread_index_in_threadgroup]]) {
  threadgroup float shared[128];
  shared[i] = i;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  x[i] = shared[127 - i];
}
"#;

const WIDTH: usize = 128;

/// Runs a kernel on so many threads, on buffers of 4096 bytes that begin where a page does not.
fn traffic(kernel: &str, buffers: &[usize]) -> Traffic {
    let library = Library::from_source(SOURCE, &Options::default()).unwrap();
    let races = Checks {
        races: true,
        strict_flags: false,
    };
    let pipeline = Pipeline::new(&library, kernel, &Constants::default(), races).unwrap();
    let mut memory = vec![0u8; 5 * 8192];
    let offset = memory.as_ptr().align_offset(64) + 192;
    let width = &mut [WIDTH as u32][..];
    let mut bindings: Vec<_> = buffers
        .iter()
        .map(|place| {
            Some(Binding {
                address: memory[offset + place * 8192..].as_mut_ptr(),
                length: 4096,
                label: String::new(),
                written: None,
            })
        })
        .collect();
    let parameters = bindings.len();
    bindings.push(Some(Binding {
        address: width.as_mut_ptr().cast(),
        length: 4,
        label: String::new(),
        written: None,
    }));
    let dispatch = Dispatch {
        grid: Grid::Threads {
            grid: [WIDTH as u32, 1, 1],
            threads: [WIDTH as u32, 1, 1],
        },
        buffers: &bindings,
        threadgroup_memory: &[],
        schedule: Schedule::Fifo,
        threads: 1,
    };
    assert_eq!(
        pipeline.dispatch(&dispatch).unwrap().traffic,
        Traffic::default(),
        "nobody asked"
    );
    let outcome = pipeline.dispatch_counted(&dispatch, &|index| index != parameters);
    let outcome = outcome.unwrap();
    assert!(outcome.findings.is_empty(), "{}", outcome.findings[0]);
    // The ranges say the same: in order, apart from each other, and as many bytes.
    let touched = &outcome.touched;
    for (plain, atomic, bytes) in [
        (
            &touched.read,
            &touched.atomic_read,
            outcome.traffic.bytes_read,
        ),
        (
            &touched.written,
            &touched.atomic_written,
            outcome.traffic.bytes_written,
        ),
    ] {
        for ranges in [plain, atomic] {
            assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
        }
        let sum: usize = plain.iter().chain(atomic).map(|range| range.len()).sum();
        assert_eq!(sum as u64, bytes);
        // Of these kernels one uses atomic functions, and nothing else.
        let idle = if kernel == "counter" { plain } else { atomic };
        assert!(idle.is_empty(), "{kernel}: {idle:?}");
    }
    outcome.traffic
}

fn bytes(bytes_read: u64, bytes_written: u64) -> Traffic {
    Traffic {
        bytes_read,
        bytes_written,
    }
}

#[test]
fn what_is_read_twice_counts_once() {
    assert_eq!(traffic("twice", &[0, 1]), bytes(512, 512));
}

#[test]
fn half_of_a_buffer_is_half() {
    assert_eq!(traffic("half_of_it", &[0, 1]), bytes(256, 256));
}

#[test]
fn parts_of_words_are_exact() {
    assert_eq!(traffic("every_third_byte", &[0, 1]), bytes(128, 128));
    assert_eq!(traffic("halves", &[0, 1]), bytes(256, 256));
    assert_eq!(traffic("fours", &[0, 1]), bytes(64, 4));
}

#[test]
fn a_read_is_remembered_after_a_write() {
    assert_eq!(traffic("in_place", &[0]), bytes(512, 512));
    assert_eq!(traffic("written_first", &[0]), bytes(16, 48));
    assert_eq!(traffic("read_by_many", &[0]), bytes(4, 4));
}

#[test]
fn one_buffer_by_two_names_is_one() {
    assert_eq!(traffic("sums", &[0, 1]), bytes(512, 256));
    assert_eq!(traffic("sums", &[0, 0]), bytes(256, 256));
}

#[test]
fn atomic_functions_read_and_write() {
    assert_eq!(traffic("counter", &[0]), bytes(4, 8));
}

#[test]
fn threadgroup_memory_is_no_traffic() {
    assert_eq!(traffic("scratch", &[0]), bytes(0, 512));
}

#[test]
fn without_the_detector_nothing_is_counted() {
    let library = Library::from_source(SOURCE, &Options::default()).unwrap();
    let none = Checks::default();
    let pipeline = Pipeline::new(&library, "in_place", &Constants::default(), none).unwrap();
    let mut memory = [0f32; WIDTH];
    let outcome = pipeline.dispatch_counted(
        &Dispatch {
            grid: Grid::Threads {
                grid: [WIDTH as u32, 1, 1],
                threads: [32, 1, 1],
            },
            buffers: &[Some(Binding {
                address: memory.as_mut_ptr().cast(),
                length: 512,
                label: String::new(),
                written: None,
            })],
            threadgroup_memory: &[],
            schedule: Schedule::Fifo,
            threads: 1,
        },
        &|_| true,
    );
    assert_eq!(outcome.unwrap().traffic, Traffic::default());
}
