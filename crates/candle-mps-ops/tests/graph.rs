//! Gradients through Candle's graph: what goes wrong there goes wrong in silence.

mod support;

use candle_core::{DType, Tensor, Var};
use candle_mps_ops::ops::{self, AttentionOptions};
use support::{Operands, Random, close, device, finest, seeded, there, values};

fn var(random: &mut Random, shape: &[usize]) -> Var {
    let (dtype, _) = finest();
    Var::from_tensor(&there(&random.tensor(shape, dtype), dtype)).unwrap()
}

/// The five fused functions of candle_nn that run on the CPU. `sdpa`, the sixth, runs on Metal only.
#[test]
fn candles_fused_ops_drop_gradients_and_ours_do_not() {
    let mut random = Random::new(7);
    let mut tensor = |shape: &[usize]| there(&random.tensor(shape, DType::F32), DType::F32);
    let x = Var::from_tensor(&tensor(&[1, 2, 3, 4])).unwrap();
    let (w, b, cos, sin) = (tensor(&[4]), tensor(&[4]), tensor(&[3, 2]), tensor(&[3, 2]));
    type Run<'a> = Box<dyn Fn() -> candle_core::Result<Tensor> + 'a>;
    let run = |run: &dyn Fn() -> candle_core::Result<Tensor>| {
        let gradients = run()
            .unwrap()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        gradients.get(&x).is_some()
    };
    let (xs, ws, bs) = (x.as_tensor(), &w, &b);
    let table: [(&str, Run, Run); 5] = [
        (
            "softmax_last_dim",
            Box::new(|| candle_nn::ops::softmax_last_dim(xs)),
            Box::new(|| Ok(ops::softmax_last_dim(xs)?)),
        ),
        (
            "rms_norm",
            Box::new(|| candle_nn::ops::rms_norm(xs, ws, 1e-5)),
            Box::new(|| Ok(ops::rms_norm(xs, ws, 1e-5)?)),
        ),
        (
            "layer_norm",
            Box::new(|| candle_nn::ops::layer_norm(xs, ws, bs, 1e-5)),
            Box::new(|| Ok(ops::layer_norm(xs, ws, Some(bs), 1e-5)?)),
        ),
        (
            "rope",
            Box::new(|| candle_nn::rotary_emb::rope(xs, &cos, &sin)),
            Box::new(|| Ok(ops::rope(xs, &cos, &sin)?)),
        ),
        (
            "rope_i",
            Box::new(|| candle_nn::rotary_emb::rope_i(xs, &cos, &sin)),
            Box::new(|| Ok(ops::rope_i(xs, &cos, &sin)?)),
        ),
    ];
    let (mut candles, mut ours) = (0, 0);
    println!("{:18} {:8} {:8}", "op", "Candle", "ours");
    for (name, candle, our) in &table {
        let answer = |has: bool| if has { "gradient" } else { "none" };
        let (candle, our) = (run(candle), run(our));
        println!("{name:18} {:8} {:8}", answer(candle), answer(our));
        candles += usize::from(candle);
        ours += usize::from(our);
    }
    let last =
        format!("gradients through Candle's fused ops: {candles} of 5; through ours: {ours} of 5");
    println!("{last}");
    assert_eq!(
        last,
        "gradients through Candle's fused ops: 0 of 5; through ours: 5 of 5"
    );
}

/// The five arguments of LoRA, by name.
fn lora_vars(random: &mut Random) -> [Var; 5] {
    [[3, 4], [5, 4], [5, 1], [4, 2], [2, 5]].map(|[rows, columns]| match columns {
        1 => var(random, &[rows]),
        _ => var(random, &[rows, columns]),
    })
}

fn lora([x, w, bias, a, b]: [&Tensor; 5]) -> Tensor {
    ops::lora(x, w, Some(bias), a, b, 0.5).unwrap()
}

/// Whatever is frozen, the others get the gradients that they get when nothing is, and what is frozen
/// gets none. All 32 ways, so that each number of arguments in the graph occurs.
#[test]
fn frozen_arguments() {
    seeded("frozen_arguments", |random| {
        let vars = lora_vars(random);
        let all = lora(vars.each_ref().map(|var| var.as_tensor()));
        let all = all.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for frozen in 0..32u32 {
            let arguments: [Tensor; 5] = std::array::from_fn(|at| match frozen >> at & 1 {
                1 => vars[at].as_detached_tensor(),
                _ => vars[at].as_tensor().clone(),
            });
            let y = lora(arguments.each_ref());
            assert_eq!(y.track_op(), frozen != 31, "{frozen:05b}");
            let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            for (at, argument) in arguments.iter().enumerate() {
                let what = format!("argument {at} of {frozen:05b}");
                match (frozen >> at & 1, gradients.get(argument)) {
                    (1, None) => {}
                    (0, Some(gradient)) => {
                        close(&what, gradient, all.get(&vars[at]).unwrap(), finest().1)
                    }
                    (_, gradient) => panic!("{what}: {gradient:?}"),
                }
            }
        }
    });
}

/// A frozen matrix costs no gradient in the others' sums either: an argument that is a result of
/// something frozen.
#[test]
fn results_of_constants_are_constants() {
    let mut random = Random::new(3);
    let w = there(&random.tensor(&[5, 4], DType::F32), DType::F32);
    let x = there(&random.tensor(&[2, 4], DType::F32), DType::F32);
    let y = ops::linear(&x, &(w * 2.).unwrap(), None).unwrap();
    assert!(!y.track_op());
}

#[test]
fn a_tensor_used_twice() {
    seeded("a_tensor_used_twice", |random| {
        let x = var(random, &[1, 2, 4, 4]);
        let options = AttentionOptions::default();
        let with = |a: &Tensor, b: &Tensor, c: &Tensor| {
            let y = ops::attention(a, b, c, None, &options).unwrap();
            let y = (ops::softmax(a, 3).unwrap() * a).unwrap().add(&y).unwrap();
            let y = ops::matmul(&y, &a.t().unwrap()).unwrap();
            ops::swiglu(&y, &y)
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let once = with(&x, &x, &x).backward().unwrap();
        // The gradient is the sum of those of three variables of the same value.
        let copies = [(); 3].map(|()| Var::from_tensor(&x.copy().unwrap()).unwrap());
        let [a, b, c] = copies.each_ref();
        let apart = with(a, b, c).backward().unwrap();
        let [a, b, c] = copies.each_ref().map(|copy| apart.get(copy).unwrap());
        let sum = ((a + b).unwrap() + c).unwrap();
        close("x three times", once.get(&x).unwrap(), &sum, finest().1);
    });
}

#[test]
fn backward_twice() {
    seeded("backward_twice", |random| {
        let vars = lora_vars(random);
        let y = lora(vars.each_ref().map(|var| var.as_tensor()));
        let logits = ops::attention(
            &y.reshape((1, 1, 3, 5)).unwrap(),
            &y.reshape((1, 1, 3, 5)).unwrap(),
            &y.reshape((1, 1, 3, 5)).unwrap(),
            None,
            &AttentionOptions {
                causal: true,
                ..Default::default()
            },
        )
        .unwrap();
        let targets = Tensor::new(&[[[0u32, 2, 4]]], &device()).unwrap();
        let loss = ops::cross_entropy(&logits, &targets).unwrap();
        let (first, second) = (loss.backward().unwrap(), loss.backward().unwrap());
        // And from another end of the same graph.
        let doubled = (&loss * 2.).unwrap().backward().unwrap();
        for var in &vars {
            let [first, second, doubled] =
                [&first, &second, &doubled].map(|all| all.get(var).unwrap());
            assert_eq!(values(first), values(second));
            close(
                "twice the loss",
                doubled,
                &(first * 2.).unwrap(),
                finest().1,
            );
        }
    });
}

/// Several threads go backward through one graph at the same time, from ends of their own.
#[test]
fn backward_from_several_threads() {
    seeded("backward_from_several_threads", |random| {
        let vars = lora_vars(random);
        let y = lora(vars.each_ref().map(|var| var.as_tensor()));
        let expected = y.sum_all().unwrap().backward().unwrap();
        std::thread::scope(|scope| {
            for factor in 1..=4 {
                let (y, vars, expected) = (&y, &vars, &expected);
                scope.spawn(move || {
                    for _ in 0..if device().is_metal() { 10 } else { 50 } {
                        let loss = (y.sum_all().unwrap() * f64::from(factor)).unwrap();
                        let gradients = loss.backward().unwrap();
                        for var in vars {
                            let expected =
                                (expected.get(var).unwrap() * f64::from(factor)).unwrap();
                            close(
                                "a thread's gradient",
                                gradients.get(var).unwrap(),
                                &expected,
                                finest().1,
                            );
                        }
                    }
                });
            }
        });
    });
}

/// A layer of a transformer on our ops learns: the loss falls, and every weight has a gradient.
#[test]
fn a_layer_learns() {
    seeded("a_layer_learns", |random| {
        let small = |random: &mut Random, shape: &[usize]| {
            let tensor = there(&random.tensor(shape, DType::F32), DType::F32);
            Var::from_tensor(&(tensor * 0.3).unwrap()).unwrap()
        };
        let weights = [[8, 8], [8, 8], [8, 8], [16, 8], [16, 8], [8, 16], [5, 8]]
            .map(|shape| small(random, &shape));
        let norm = Var::ones(8, DType::F32, &device()).unwrap();
        let x = there(&random.tensor(&[2, 6, 8], DType::F32), DType::F32);
        let cos = there(&random.tensor(&[6, 2], DType::F32), DType::F32);
        let sin = (1. - cos.sqr().unwrap())
            .unwrap()
            .abs()
            .unwrap()
            .sqrt()
            .unwrap();
        let targets: Vec<u32> = (0..12).map(|_| random.below(5) as u32).collect();
        let targets = Tensor::from_vec(targets, (2, 6), &device()).unwrap();
        let options = AttentionOptions {
            causal: true,
            ..Default::default()
        };
        let loss = || -> candle_mps_ops::Result<Tensor> {
            let [q, k, v, gate, up, down, head] = &weights;
            let h = ops::rms_norm(&x, &norm, 1e-5)?;
            let heads = |w: &Var| -> candle_core::Result<Tensor> {
                let y = ops::linear(&h, w, None)?;
                y.reshape((2, 6, 2, 4))?.transpose(1, 2)
            };
            let (q, k) = (
                ops::rope(&heads(q)?, &cos, &sin)?,
                ops::rope(&heads(k)?, &cos, &sin)?,
            );
            let y = ops::attention(&q, &k, &heads(v)?, None, &options)?;
            let h = (&x + y.transpose(1, 2)?.reshape((2, 6, 8))?)?;
            let (gate, up) = (ops::linear(&h, gate, None)?, ops::linear(&h, up, None)?);
            let h = (&h + ops::linear(&ops::swiglu(&gate, &up)?, down, None)?)?;
            ops::cross_entropy(&ops::linear(&h, head, None)?, &targets)
        };
        let value = |loss: Tensor| loss.to_scalar::<f32>().unwrap();
        let start = value(loss().unwrap());
        for _ in 0..100 {
            let gradients = loss().unwrap().backward().unwrap();
            for var in weights.iter().chain([&norm]) {
                let gradient = gradients.get(var).expect("a gradient for every weight");
                var.set(&(var.as_tensor() - (gradient * 0.3).unwrap()).unwrap())
                    .unwrap();
            }
        }
        let end = value(loss().unwrap());
        assert!(end < start / 2., "from {start} to {end}");
    });
}
