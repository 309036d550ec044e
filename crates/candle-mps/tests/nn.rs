//! `nn` beside candle_nn: the same results from the same variables, and gradients where candle_nn has
//! none.

use candle_core::{D, DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_mps::{check, nn};
use candle_nn::{Optimizer, VarBuilder, VarMap};

/// Where everything here computes: on Metal if that is built.
#[cfg(feature = "metal")]
fn device() -> Device {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let device = DEVICE.get_or_init(|| candle_mps::metal::device(0).expect("a GPU"));
    device.clone()
}

/// Where everything here computes.
#[cfg(not(feature = "metal"))]
fn device() -> Device {
    Device::Cpu
}

/// Asserts that two tensors are as near as rounding leaves them.
fn close(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let flat = |x: &Tensor| {
        let x = x.flatten_all().unwrap().to_device(&Device::Cpu).unwrap();
        x.to_dtype(DType::F64).unwrap()
    };
    let [ours, theirs] = [ours, theirs].map(|x| flat(x).to_vec1::<f64>().unwrap());
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let bound = 2e-5 * (1. + theirs.abs());
        assert!(
            (ours - theirs).abs() <= bound,
            "{what}[{at}]: {ours}, {theirs}"
        );
    }
}

fn random(dims: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1., dims, &device()).unwrap()
}

fn names(varmap: &VarMap) -> Vec<String> {
    let mut names: Vec<_> = varmap.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    names
}

/// Both layers from one map of variables: the second takes what the first has made.
fn both<A: Module, B: Module>(
    what: &str,
    ours: impl Fn(VarBuilder) -> Result<A>,
    theirs: impl Fn(VarBuilder) -> Result<B>,
    x: &Tensor,
) {
    let build = |first: bool| {
        let varmap = VarMap::new();
        let vb = VarBuilder::from_varmap(&varmap, DType::F32, &device());
        let (ours, theirs) = if first {
            let ours = ours(vb.clone()).unwrap();
            (ours, theirs(vb).unwrap())
        } else {
            let theirs = theirs(vb.clone()).unwrap();
            (ours(vb).unwrap(), theirs)
        };
        (varmap, ours, theirs)
    };
    let (made_by_us, ours, theirs) = build(true);
    let (made_by_them, ..) = build(false);
    assert_eq!(names(&made_by_us), names(&made_by_them), "{what}");
    // Other values than ones and zeros.
    for var in made_by_us.all_vars() {
        var.set(&random(var.dims())).unwrap();
    }
    close(what, &ours.forward(x).unwrap(), &theirs.forward(x).unwrap());
    let loss = ours.forward(x).unwrap().sqr().unwrap().sum_all().unwrap();
    check::grads(&made_by_us, &loss.backward().unwrap()).unwrap();
}

#[test]
fn layers_are_candle_nns() {
    for x in [
        random(&[5, 12]),
        random(&[2, 5, 12]),
        random(&[2, 3, 5, 12]),
    ] {
        both(
            "linear",
            |vb| nn::linear(12, 7, vb),
            |vb| candle_nn::linear(12, 7, vb),
            &x,
        );
        both(
            "linear_no_bias",
            |vb| nn::linear_no_bias(12, 7, vb),
            |vb| candle_nn::linear_no_bias(12, 7, vb),
            &x,
        );
        for bias in [false, true] {
            both(
                "linear_b",
                |vb| nn::linear_b(12, 7, bias, vb),
                |vb| candle_nn::linear_b(12, 7, bias, vb),
                &x,
            );
        }
        both(
            "layer_norm",
            |vb| nn::layer_norm(12, 1e-5, vb),
            |vb| candle_nn::layer_norm(12, 1e-5, vb),
            &x,
        );
        both(
            "layer_norm_no_bias",
            |vb| nn::layer_norm_no_bias(12, 1e-5, vb),
            |vb| candle_nn::layer_norm_no_bias(12, 1e-5, vb),
            &x,
        );
        both(
            "rms_norm",
            |vb| nn::rms_norm(12, 1e-5, vb),
            |vb| candle_nn::rms_norm(12, 1e-5, vb),
            &x,
        );
        let config = nn::LayerNormConfig {
            eps: 1e-6,
            remove_mean: false,
            affine: true,
        };
        both(
            "a layer norm that keeps its mean",
            |vb| nn::layer_norm(12, config, vb),
            |vb| candle_nn::layer_norm(12, config, vb),
            &x,
        );
    }
}

#[test]
fn older_names_of_a_norm_are_found() {
    let tensors = [("gamma", random(&[4])), ("beta", random(&[4]))];
    let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
    let vb = VarBuilder::from_tensors(tensors.into(), DType::F32, &device());
    let x = random(&[3, 4]);
    let ours = nn::layer_norm(4, 1e-5, vb.clone()).unwrap();
    let theirs = candle_nn::layer_norm(4, 1e-5, vb).unwrap();
    close(
        "gamma and beta",
        &ours.forward(&x).unwrap(),
        &theirs.forward(&x).unwrap(),
    );
}

#[test]
fn functions_are_candle_nns() -> Result<()> {
    let x = random(&[2, 3, 8]);
    let (w, b) = (random(&[8]), random(&[8]));
    close(
        "softmax",
        &nn::ops::softmax(&x, 1)?,
        &candle_nn::ops::softmax(&x, 1)?,
    );
    close(
        "softmax_last_dim",
        &nn::ops::softmax_last_dim(&x)?,
        &candle_nn::ops::softmax_last_dim(&x)?,
    );
    close(
        "log_softmax",
        &nn::ops::log_softmax(&x, D::Minus1)?,
        &candle_nn::ops::log_softmax(&x, D::Minus1)?,
    );
    close(
        "swiglu",
        &nn::ops::swiglu(&x)?,
        &candle_nn::ops::swiglu(&x)?,
    );
    close(
        "rms_norm",
        &nn::ops::rms_norm(&x, &w, 1e-5)?,
        &candle_nn::ops::rms_norm(&x, &w, 1e-5)?,
    );
    close(
        "layer_norm",
        &nn::ops::layer_norm(&x, &w, &b, 1e-5)?,
        &candle_nn::ops::layer_norm(&x, &w, &b, 1e-5)?,
    );
    // What is not replaced is candle_nn's own.
    close("silu", &nn::ops::silu(&x)?, &candle_nn::ops::silu(&x)?);
    let (heads, cos, sin) = (random(&[2, 3, 5, 8]), random(&[7, 4]), random(&[7, 4]));
    close(
        "rope",
        &nn::rotary_emb::rope(&heads, &cos, &sin)?,
        &candle_nn::rotary_emb::rope(&heads, &cos, &sin)?,
    );
    close(
        "rope_i",
        &nn::rotary_emb::rope_i(&heads, &cos, &sin)?,
        &candle_nn::rotary_emb::rope_i(&heads, &cos, &sin)?,
    );
    close(
        "rope_thd",
        &nn::rotary_emb::rope_thd(&heads, &cos, &sin)?,
        &candle_nn::rotary_emb::rope_thd(&heads, &cos, &sin)?,
    );
    let (logits, targets) = (random(&[4, 9]), Tensor::new(&[0u32, 8, 3, 3], &device())?);
    close(
        "cross_entropy",
        &nn::loss::cross_entropy(&logits, &targets)?,
        &candle_nn::loss::cross_entropy(&logits, &targets)?,
    );
    // candle_nn has no form of it for the CPU.
    let [q, k, v] = [
        random(&[1, 4, 3, 8]),
        random(&[1, 4, 5, 8]),
        random(&[1, 4, 5, 8]),
    ];
    let scores = (q.matmul(&k.t()?)? * 0.5)?;
    let capped = ((&scores / 3.)?.tanh()? * 3.)?;
    for (cap, scores) in [(1., scores), (3., capped)] {
        let expected = candle_nn::ops::softmax(&scores, 3)?.matmul(&v)?;
        close(
            "sdpa",
            &nn::ops::sdpa(&q, &k, &v, None, false, 0.5, cap)?,
            &expected,
        );
    }
    Ok(())
}

#[test]
fn adamw_takes_candle_nns_steps() -> Result<()> {
    let start = [random(&[6, 5]), random(&[7]), random(&[2, 3, 4])];
    let params = candle_nn::ParamsAdamW {
        lr: 0.05,
        weight_decay: 0.1,
        ..Default::default()
    };
    let vars = || {
        start
            .iter()
            .map(Var::from_tensor)
            .collect::<Result<Vec<_>>>()
    };
    let (ours, theirs) = (vars()?, vars()?);
    let mut adamw = nn::AdamW::new(ours.clone(), params.clone())?;
    let mut candle = candle_nn::AdamW::new(theirs.clone(), params)?;
    for step in 0..5 {
        let factors = start.each_ref().map(|x| random(x.dims()));
        let grads = |vars: &[Var]| {
            let mut loss = Tensor::zeros((), DType::F32, &device())?;
            // The last variable is left out of every second step.
            let used = if step % 2 == 0 { 3 } else { 2 };
            for (var, factor) in vars.iter().zip(&factors).take(used) {
                loss = (loss + (var.as_tensor() * factor)?.sqr()?.sum_all()?)?;
            }
            loss.backward()
        };
        if step == 3 {
            adamw.set_learning_rate(0.01);
            candle.set_learning_rate(0.01);
        }
        adamw.step(&grads(&ours)?)?;
        candle.step(&grads(&theirs)?)?;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            close("AdamW", ours, theirs);
        }
    }
    assert_eq!(adamw.learning_rate(), 0.01);
    assert_eq!(adamw.params().weight_decay, 0.1);
    Ok(())
}

fn lora(config: &nn::LoraConfig) -> (VarMap, nn::Linear, nn::LoraLinear) {
    let base = nn::Linear::new(
        Var::from_tensor(&random(&[6, 4])).unwrap().into_inner(),
        Some(random(&[6])),
    );
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &device());
    let layer = nn::LoraLinear::new(base.clone(), config, vb.pp("q_proj")).unwrap();
    (varmap, base, layer)
}

#[test]
fn a_lora_layer_starts_as_its_base_and_only_its_part_learns() -> Result<()> {
    let config = nn::LoraConfig {
        rank: 2,
        alpha: 6.,
        dropout: 0.,
    };
    let (varmap, base, layer) = lora(&config);
    assert_eq!(
        names(&varmap),
        ["q_proj.lora_A.weight", "q_proj.lora_B.weight"]
    );
    let x = random(&[3, 5, 4]);
    close("the start", &layer.forward(&x)?, &base.forward(&x)?);

    for var in varmap.all_vars() {
        var.set(&random(var.dims()))?;
    }
    let (a, b) = layer.adapter();
    let part = x.broadcast_matmul(&a.t()?)?.broadcast_matmul(&b.t()?)?;
    let expected = (base.forward(&x)? + (part * 3.)?)?;
    let y = layer.forward(&x)?;
    close("with its part", &y, &expected);
    let grads = y.sqr()?.sum_all()?.backward()?;
    check::grads(&varmap, &grads)?;
    assert!(grads.get(base.weight()).is_none(), "the base is frozen");
    let by_hand = expected.sqr()?.sum_all()?.backward()?;
    for var in varmap.all_vars() {
        let [ours, theirs] = [&grads, &by_hand].map(|grads| grads.get(&var).unwrap());
        let size = theirs.abs()?.max_all()?.to_scalar::<f32>()?;
        close(
            "gradient",
            &(ours / f64::from(size))?,
            &(theirs / f64::from(size))?,
        );
    }
    Ok(())
}

#[test]
fn merging_changes_nothing_but_the_cost_and_is_taken_back_exactly() -> Result<()> {
    let (varmap, base, mut layer) = lora(&nn::LoraConfig::default());
    for var in varmap.all_vars() {
        var.set(&random(var.dims()))?;
    }
    let x = random(&[3, 4]);
    let before = layer.forward(&x)?;
    layer.merge()?;
    assert!(layer.is_merged());
    close("merged", &layer.forward(&x)?, &before);
    assert!(
        layer
            .forward_t(&x, true)
            .unwrap_err()
            .to_string()
            .contains("unmerge")
    );
    close(
        "merged once more",
        &layer.clone().into_merged()?.forward(&x)?,
        &before,
    );
    layer.unmerge();
    assert_eq!(
        layer.forward(&x)?.to_vec2::<f32>()?,
        before.to_vec2::<f32>()?
    );
    assert_eq!(
        layer.base().weight().to_vec2::<f32>()?,
        base.weight().to_vec2::<f32>()?
    );
    Ok(())
}

#[test]
fn dropout_hides_from_the_part_only_and_only_in_training() -> Result<()> {
    let (varmap, base, layer) = lora(&nn::LoraConfig {
        dropout: 0.5,
        ..Default::default()
    });
    for var in varmap.all_vars() {
        var.set(&random(var.dims()))?;
    }
    let x = random(&[2, 4]);
    let calm = layer.forward_t(&x, false)?;
    assert_eq!(calm.to_vec2::<f32>()?, layer.forward(&x)?.to_vec2::<f32>()?);
    let part = (&calm - base.forward(&x)?)?;
    let mut mean = part.zeros_like()?;
    let rounds = 4000;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..rounds {
        let y = (layer.forward_t(&x, true)? - base.forward(&x)?)?;
        seen.insert(format!("{:?}", y.to_vec2::<f32>()?));
        mean = (mean + y)?;
    }
    // 2⁸ ways to hide eight numbers; the mean is what nothing hidden gives.
    assert!(seen.len() > 100, "{} outcomes", seen.len());
    let off = ((mean / f64::from(rounds))? - &part)?.abs()?.max_all()?;
    let size = part.abs()?.max_all()?.to_scalar::<f32>()?;
    let off = off.to_scalar::<f32>()?;
    assert!(
        off < 0.2 * size.max(5.),
        "the mean is off by {off} of {size}"
    );
    Ok(())
}

#[test]
fn what_a_lora_layer_refuses() {
    let base = || nn::Linear::new(random(&[6, 4]), None);
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &device());
    let new = |config: nn::LoraConfig| {
        let layer = nn::LoraLinear::new(base(), &config, vb.clone());
        layer.unwrap_err().to_string()
    };
    let rank = nn::LoraConfig {
        rank: 0,
        ..Default::default()
    };
    assert!(new(rank).contains("rank is 0"));
    let dropout = nn::LoraConfig {
        dropout: 1.,
        ..Default::default()
    };
    assert!(new(dropout).contains("dropout is 1"));
}

#[test]
fn missing_gradients_are_named_with_the_likely_op() -> Result<()> {
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::F32, &device());
    let proj = nn::linear_no_bias(4, 4, vb.pp("layers.0.q_proj"))?;
    let norm = candle_nn::rms_norm(4, 1e-5, vb.pp("norm"))?;
    let head = nn::linear_no_bias(4, 2, vb.pp("head"))?;
    let x = random(&[3, 4]);
    let y = head.forward(&norm.forward(&proj.forward(&x)?)?)?;
    let grads = y.sqr()?.sum_all()?.backward()?;
    let missing = check::grads(&varmap, &grads).unwrap_err();
    let text = candle_core::Error::from(missing).to_string();
    for part in [
        "2 of 3 variables got no gradient",
        "layers.0.q_proj.weight: likely candle_nn's softmax_last_dim",
        "norm.weight: likely candle_nn's rms_norm",
        "candle-mps patch",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("head"), "{text}");
    Ok(())
}
