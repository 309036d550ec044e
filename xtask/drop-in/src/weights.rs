//! Weights that look random and are the same in every process: a weight's elements depend on its name.

use candle_core::{Result, Tensor, Var};
use candle_nn::VarMap;

/// Numbers in −1..1 that depend on `name`. <https://prng.di.unimi.it/splitmix64.c>
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> + use<> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..count).map(move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.
    })
}

/// All weights in the order of their names.
pub fn sorted(weights: &VarMap) -> Vec<(String, Var)> {
    let data = weights.data().lock().unwrap_or_else(|it| it.into_inner());
    let mut all: Vec<_> = data
        .iter()
        .map(|(name, var)| (name.clone(), var.clone()))
        .collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    all
}

/// Gives every weight its elements: those of norms are around 1, those of matrices keep the size of
/// what goes through them.
pub fn fill(weights: &VarMap) -> Result<()> {
    for (name, var) in sorted(weights) {
        let norm = var.rank() == 1 && name.ends_with("weight");
        let (middle, size) = if norm { (1., 0.1) } else { (0., spread(&var)) };
        set(
            &var,
            uniform(&name, var.elem_count()).map(|it| middle + size * it),
        )?;
    }
    Ok(())
}

/// How far the elements of a weight are from their middle, at most.
fn spread(var: &Var) -> f64 {
    match *var.dims() {
        [] | [_] => 0.1,
        [_, ref inputs @ ..] => (3. / inputs.iter().product::<usize>() as f64).sqrt(),
    }
}

/// How a weight is moved: every element by its spread times `by`, up or down.
pub fn moved(weights: &VarMap, name: &str, by: f64) -> Result<Vec<f64>> {
    let all = sorted(weights);
    let var = all.iter().find(|it| it.0 == name).map(|it| &it.1);
    let (spread, count) = var.map_or((0., 0), |var| (spread(var) * by, var.elem_count()));
    let signs = uniform(&format!("{name}/sign"), count);
    Ok(signs.map(|it| spread * it.signum()).collect())
}

/// Moves weights.
pub fn shift(weights: &VarMap, names: &[&str], by: f64) -> Result<()> {
    let all = sorted(weights);
    for (name, var) in all.into_iter().filter(|it| names.contains(&it.0.as_str())) {
        let old = var.flatten_all()?.to_vec1::<f32>()?;
        let moves = moved(weights, &name, by)?;
        set(
            &var,
            old.into_iter()
                .zip(moves)
                .map(|(it, by)| f64::from(it) + by),
        )?;
    }
    Ok(())
}

fn set(var: &Var, elements: impl Iterator<Item = f64>) -> Result<()> {
    let elements = elements.map(|it| it as f32);
    var.set(&Tensor::from_iter(elements, var.device())?.reshape(var.shape())?)
}
