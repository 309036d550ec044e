//! The ways onto Candle's stream: as they are they are silent and right, and without any one of their orderings they are
//! caught. What must never be done is caught, too.

use crate::candle::{Form, MetalBuffer, SIDE, Stream, empty, product, raw, storage};
use crate::support::size;
use crate::{Asked, Score};
use candle_core::{D, Tensor};
use candle_metal_kernels::metal::{ComputePipeline, Fence};
use candle_mps::FusedOps;
use objc2::rc::autoreleasepool;
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue,
    MTLComputeCommandEncoder, MTLDevice,
};
use std::sync::mpsc;
use std::time::Duration;

/// A way, to be compared with what the CPU computes.
type Route = fn(&Stream) -> Vec<f32>;

const ROUTES: &[(&str, Route)] = &[
    ("route/candle-alone", candle_alone),
    ("route/inline", inline),
    ("route/blocking", blocking),
    ("route/inline-by-hand", |stream| inline_by_hand(stream, "")),
    ("route/inline-bound-once", |stream| bound_once(stream, "")),
    ("route/blocking-by-hand", |stream| {
        blocking_by_hand(stream, "")
    }),
    ("route/queue-fenced", |stream| {
        queue(stream, Form::Fenced, "")
    }),
    ("route/queue-events", |stream| {
        queue(stream, Form::Events, "")
    }),
    // As their mutants run: what Candle has committed does not complete before ours is.
    ("route/queue-fenced-gated", |stream| {
        gated(stream, Form::Fenced, "")
    }),
    ("route/queue-events-gated", |stream| {
        gated(stream, Form::Events, "")
    }),
];

/// What the two forms of the queue route cannot do without.
const FENCED: &[&str] = &["update F1", "wait F1", "update F2", "wait F2"];
const EVENTS: &[&str] = &[
    "update F1",
    "wait F1",
    "first signal",
    "first wait",
    "second signal",
    "second wait",
    "update F2",
    "wait F2",
];

/// A way without one of its parts.
type Without = fn(&Stream, &str) -> Vec<f32>;

/// What the other ways cannot do without: Metal's orderings, and what Candle has to be told of ours on its encoder.
const PARTS: &[(&str, &[&str], Without)] = &[
    ("fenced", FENCED, |stream, part| {
        gated(stream, Form::Fenced, part)
    }),
    ("events", EVENTS, |stream, part| {
        gated(stream, Form::Events, part)
    }),
    ("blocking", &["wait before", "wait after"], blocking_by_hand),
    ("inline", &["output"], inline_by_hand),
    (
        "inline-bound-once",
        &["input again", "output again"],
        bound_once,
    ),
];

type Forbidden = fn(&Stream);

/// Name, program, and what is found.
const FORBIDDEN: &[(&str, &str, Forbidden)] = &[
    (
        "own-queue-with-fences",
        "no fence, event or barrier",
        own_queue,
    ),
    ("encoder-open", "encoder already open", encoder_open),
    (
        "fences-in-empty-encoders",
        "no fence, event or barrier",
        fences_alone,
    ),
    ("guard-ended", "use after endEncoding", guard_ended),
    ("operand-dropped", "hazard", operand_dropped),
    ("output-after-the-flush", "hazard", output_too_late),
];

pub fn run(asked: &Asked, stream: &Stream) -> [Score; 2] {
    let (mut routes, mut mutants) = (Score::default(), Score::default());
    for (name, route) in ROUTES {
        routes.case(asked, name, || {
            let run = || autoreleasepool(|_| route(stream));
            asked
                .check()
                .run(|| assert_eq!(run(), expected(name), "{name}"));
        });
    }
    for (name, parts, route) in PARTS {
        for part in *parts {
            mutants.case(asked, &format!("mutant/{name}-without {part}"), || {
                // A signal that is missing is a wait without an end.
                let (text, check) = match part.ends_with("signal") {
                    true => ("deadlock", asked.mutant().watchdog_ms(50)),
                    false => ("hazard", asked.mutant()),
                };
                let run = || autoreleasepool(|_| drop(route(stream, part)));
                check.expect_in_each(text).run(run);
            });
        }
    }
    for (name, text, forbidden) in FORBIDDEN {
        mutants.case(asked, &format!("forbidden/{name}"), || {
            asked
                .mutant()
                .expect_in_each(text)
                .run(|| autoreleasepool(|_| forbidden(stream)));
        });
    }
    mutants.case(asked, "forbidden/guard-held", guard_held);
    [routes, mutants]
}

/// A Candle op while a guard is held waits for the lock of that guard. Metal has no part in it: nothing but a deadline
/// can tell.
fn guard_held() {
    let finishes = |held: bool| {
        let (done, result) = mpsc::channel();
        // A thread that hangs is left behind, with a device of its own.
        std::thread::spawn(move || {
            let stream = Stream::new();
            let guard = stream.metal().command_encoder().unwrap();
            let _guard = held.then_some(guard);
            done.send(()).unwrap();
            drop(stream.matrix());
            done.send(()).unwrap();
        });
        let begun = result.recv_timeout(Duration::from_secs(60));
        assert_eq!(begun, Ok(()), "a device and its guard");
        result.recv_timeout(Duration::from_secs(if held { 1 } else { 60 }))
    };
    assert_eq!(finishes(true), Err(mpsc::RecvTimeoutError::Timeout));
    assert_eq!(finishes(false), Ok(()));
}

/// What each route computes, on the CPU.
fn expected(name: &str) -> Vec<f32> {
    let values: Vec<f32> = (0..SIDE * SIDE).map(|at| (at % 5) as f32).collect();
    let cpu = candle_core::Device::Cpu;
    let matrix = (Tensor::from_slice(&values, (SIDE, SIDE), &cpu).unwrap() * 2.0).unwrap();
    let result = match name {
        "route/inline" => matrix
            .sum_keepdim(D::Minus1)
            .unwrap()
            .broadcast_as((SIDE, SIDE))
            .unwrap(),
        "route/candle-alone" => matrix.matmul(&matrix).unwrap(),
        "route/inline-bound-once" => {
            return (1..=SIDE * SIDE).map(|at| at as f32 * 4.0).collect();
        }
        _ => (matrix.matmul(&matrix).unwrap() + 1.0).unwrap(),
    };
    flat(&result)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn candle_alone(stream: &Stream) -> Vec<f32> {
    let matrix = stream.matrix();
    flat(&matrix.matmul(&matrix).unwrap())
}

/// An op of ours between Candle's: softmax, of which the logarithm and a difference are known exactly.
fn inline(stream: &Stream) -> Vec<f32> {
    let matrix = stream.matrix();
    let ones = (matrix
        .softmax_mps()
        .unwrap()
        .sum_keepdim(D::Minus1)
        .unwrap()
        + 0.25)
        .unwrap();
    // About one, so that rounding is over.
    let ones = ones.round().unwrap().broadcast_as((SIDE, SIDE)).unwrap();
    let sums = matrix.sum_keepdim(D::Minus1).unwrap();
    flat(&ones.broadcast_mul(&sums).unwrap())
}

fn blocking(stream: &Stream) -> Vec<f32> {
    let matrix = stream.matrix();
    flat(&(matrix.matmul_mps(&matrix).unwrap() + 1.0).unwrap())
}

/// Our kernel on Candle's encoder, of which Candle is told what it reads and what it writes.
fn inline_by_hand(stream: &Stream, without: &str) -> Vec<f32> {
    let matrix = stream.matrix();
    let (output, held) = (stream.output(), storage(&matrix));
    {
        let guard = stream.metal().command_encoder().unwrap();
        let encoder = guard.as_ref();
        encoder.set_compute_pipeline_state(&ComputePipeline::new(stream.gpu.square.clone()));
        match without {
            "output" => encoder.set_input_buffer(0, Some(&output), 0),
            _ => encoder.set_output_buffer(0, Some(&output), 0),
        }
        encoder.set_input_buffer(1, Some(held.buffer()), 0);
        encoder.dispatch_threads(size(SIDE * SIDE), size(SIDE));
    }
    flat(&(stream.tensor(output) + 1.0).unwrap())
}

/// A buffer stays bound from one dispatch to the next, but Candle forgets at each what it was told: it has to be told
/// again.
fn bound_once(stream: &Stream, without: &str) -> Vec<f32> {
    let (between, output) = (stream.output(), stream.output());
    let fill = ComputePipeline::new(stream.gpu.fill.clone());
    let twice = ComputePipeline::new(stream.gpu.twice.clone());
    let copy = ComputePipeline::new(stream.gpu.copy.clone());
    {
        let guard = stream.metal().command_encoder().unwrap();
        let encoder = guard.as_ref();
        let run = |kernel: &ComputePipeline| {
            encoder.set_compute_pipeline_state(kernel);
            encoder.dispatch_threads(size(SIDE * SIDE), size(SIDE));
        };
        encoder.set_output_buffer(0, Some(&between), 0);
        encoder.set_input_buffer(1, Some(&between), 0);
        run(&fill);
        encoder.set_output_buffer(0, Some(&output), 0);
        if without != "input again" {
            encoder.set_input_buffer(1, Some(&between), 0);
        }
        run(&copy);
        for _ in 0..2 {
            if without != "output again" {
                encoder.set_output_buffer(0, Some(&output), 0);
            }
            run(&twice);
        }
    }
    flat(&stream.tensor(output))
}

/// A product of MPS on a queue of our own, which nothing but the CPU orders with Candle's.
fn blocking_by_hand(stream: &Stream, without: &str) -> Vec<f32> {
    let gate = stream.gate();
    let matrix = stream.matrix();
    let (output, held) = (stream.output(), storage(&matrix));
    let own = stream.gpu.device.newCommandQueue().unwrap();
    let commands = own.commandBuffer().unwrap();
    // A wait ends when the gate is open.
    let gate = match without {
        "wait before" => {
            stream.flush();
            Some(gate)
        }
        _ => {
            drop(gate);
            stream.metal().flush_and_wait_current().unwrap();
            None
        }
    };
    product(
        &stream.gpu,
        &commands,
        held.buffer().as_ref(),
        (*output).as_ref(),
    );
    commands.commit();
    drop(gate);
    if without != "wait after" {
        commands.waitUntilCompleted();
    }
    flat(&(stream.tensor(output) + 1.0).unwrap())
}

fn queue(stream: &Stream, form: Form, without: &str) -> Vec<f32> {
    let matrix = stream.matrix();
    let square = stream.square(&matrix, form, without);
    flat(&(square + 1.0).unwrap())
}

fn gated(stream: &Stream, form: Form, without: &str) -> Vec<f32> {
    let gate = stream.gate();
    let matrix = stream.matrix();
    let square = stream.square(&matrix, form, without);
    drop(gate);
    flat(&(square + 1.0).unwrap())
}

/// Fences on a queue of our own.
fn own_queue(stream: &Stream) {
    let gate = stream.gate();
    let matrix = stream.matrix();
    let output = stream.output();
    let fence = Fence::new(stream.metal().device());
    stream.update_and_flush(&fence);
    let own = stream.gpu.device.newCommandQueue().unwrap();
    let commands = own.commandBuffer().unwrap();
    let held = storage(&matrix);
    let buffers = [(*output).as_ref(), held.buffer().as_ref()].map(objc2::Message::retain);
    stream.gpu.pass(&commands, "ours", |encoder| {
        encoder.waitForFence(&raw(&fence));
        stream.gpu.dispatch(
            encoder,
            &stream.gpu.square,
            &[&buffers[0], &buffers[1]],
            SIDE * SIDE,
        );
    });
    commands.commit();
    drop(gate);
    commands.waitUntilCompleted();
}

/// MPS encodes while an encoder is open.
fn encoder_open(stream: &Stream) {
    let matrix = stream.matrix();
    let (output, held) = (stream.output(), storage(&matrix));
    let commands = stream.queue.commandBuffer().unwrap();
    let open = commands.blitCommandEncoder().unwrap();
    let encode = || {
        product(
            &stream.gpu,
            &commands,
            held.buffer().as_ref(),
            (*output).as_ref(),
        )
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(encode));
    open.endEncoding();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Empty encoders that wait and update, around an encode of MPS.
fn fences_alone(stream: &Stream) {
    let gate = stream.gate();
    let matrix = stream.matrix();
    let (output, held) = (stream.output(), storage(&matrix));
    let fence = Fence::new(stream.metal().device());
    stream.update_and_flush(&fence);
    let commands = stream.queue.commandBuffer().unwrap();
    empty(&stream.gpu, &commands, |blit| {
        blit.waitForFence(fence.raw())
    });
    product(
        &stream.gpu,
        &commands,
        held.buffer().as_ref(),
        (*output).as_ref(),
    );
    commands.commit();
    drop(gate);
    commands.waitUntilCompleted();
}

/// `end_encoding` on the guard's encoder, on a stream of its own, which is spoilt afterwards.
fn guard_ended(_: &Stream) {
    let stream = Stream::new();
    stream
        .metal()
        .command_encoder()
        .unwrap()
        .as_ref()
        .end_encoding();
    // Candle goes on with the encoder that has ended.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.matrix()));
    // Its destructors would only say it again.
    std::mem::forget(stream);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Our work still reads an operand that has gone back to Candle's pool, which gives it to the next op.
fn operand_dropped(stream: &Stream) {
    let matrix = stream.matrix();
    stream.device.synchronize().unwrap();
    let (output, own) = (
        stream.output(),
        stream.gpu.device.newCommandQueue().unwrap(),
    );
    let commands = own.commandBuffer().unwrap();
    product(
        &stream.gpu,
        &commands,
        storage(&matrix).buffer().as_ref(),
        (*output).as_ref(),
    );
    drop(matrix);
    commands.commit();
    drop(flat(&stream.matrix()));
    commands.waitUntilCompleted();
}

/// The output is allocated after the wait that is meant to protect it: the pool gives memory that an op uses which
/// came in between.
fn output_too_late(stream: &Stream) {
    let matrix = stream.matrix();
    stream.metal().flush_and_wait_current().unwrap();
    let gate = stream.gate();
    // Another thread's op, whose result is dropped at once.
    drop((stream.matrix() * 3.0).unwrap());
    stream.flush();
    let (output, held) = (stream.output(), storage(&matrix));
    let own = stream.gpu.device.newCommandQueue().unwrap();
    let commands = own.commandBuffer().unwrap();
    let into: &MetalBuffer = (*output).as_ref();
    product(&stream.gpu, &commands, held.buffer().as_ref(), into);
    commands.commit();
    drop(gate);
    commands.waitUntilCompleted();
    assert_eq!(into.length(), SIDE * SIDE * 4);
}
