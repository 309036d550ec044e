//! From which size on two threads beat one: where the ops' constants come from.
//!
//!     cargo bench -p candle-mps-cpu --bench threads
//!
//! Calls follow each other here, so the other thread hardly sleeps and a wake-up is cheap; between the calls
//! of a model it costs more, see [`threads::parts`]. The ops beside their peers: `candle-mps bench`.

use std::time::Instant;

use candle_mps_cpu::{
    Layout, Result, adamw, cross_entropy, layer_norm, rms_norm, rope, softmax, swiglu, threads,
};

/// One thread against two, for rows of 1024. Lower quartiles: what else runs on the machine delays two
/// threads more often than one.
fn main() -> Result<()> {
    println!(
        "{:<14} {:>9} {:>10} {:>10} {:>6}",
        "", "elements", "1 thread", "2 threads", "ratio"
    );
    let all: Vec<f32> = (0..512 * 1024)
        .map(|at| (at % 257) as f32 / 64. - 2.)
        .collect();
    let mut state = [(); 3].map(|()| all.iter().map(|x| x.abs()).collect::<Vec<f32>>());
    for rows in [16, 32, 48, 64, 96, 128, 192, 256, 512] {
        let dims = [rows, 1024];
        let layout = Layout::contiguous(&dims)?;
        let x = &all[..layout.count()];
        let w = &all[..1024];
        let mut out = vec![0f32; x.len()];
        let mut out_2 = out.clone();
        let options = softmax::Options::default();
        two("softmax", x.len(), || {
            softmax::softmax(x, &layout, 1, &options, &mut out)
        })?;
        two("RMS norm", x.len(), || {
            rms_norm::rms_norm(x, &layout, Some(w), 1e-5, &mut out)
        })?;
        two("layer norm", x.len(), || {
            layer_norm::layer_norm(x, &layout, Some(w), Some(w), 1e-5, &mut out)
        })?;
        two("rope", x.len(), || {
            let half = [rows, 512];
            let angles = Layout::new(&half, &[0, 1], 0)?;
            let angles = (w, &angles);
            rope::rope((x, &layout), angles, angles, rope::Pairs::Halves, &mut out)
        })?;
        two("swiglu", x.len(), || {
            swiglu::swiglu((x, &layout), (x, &layout), &mut out)
        })?;
        let targets = vec![5u32; rows];
        two("cross-entropy", x.len(), || {
            cross_entropy::cross_entropy(x, &layout, &targets, None).map(drop)
        })?;
        two("RMS norm bwd", x.len(), || {
            let out = rms_norm::RmsNormGrads {
                x: &mut out,
                weight: Some(&mut out_2[..1024]),
            };
            rms_norm::rms_norm_backward((x, &layout), Some(w), (x, &layout), 1e-5, out)
        })?;
        two("AdamW", x.len(), || {
            let [parameter, first, second] = state.each_mut().map(|all| &mut all[..x.len()]);
            let state = adamw::Moments {
                parameter,
                first,
                second,
            };
            adamw::adamw(state, (x, &layout), 3, &adamw::AdamW::default())
        })?;
    }
    Ok(())
}

fn two(name: &str, elements: usize, mut op: impl FnMut() -> Result<()>) -> Result<()> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..400 {
        for (threads, samples) in samples.iter_mut().enumerate() {
            let start = Instant::now();
            threads::with_count(threads + 1, || (0..4).try_for_each(|_| op()))?;
            samples.push(start.elapsed().as_secs_f64() / 4e-6);
        }
    }
    let [one, both] = samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 4]
    });
    println!(
        "{name:<14} {elements:>9} {one:>7.1} us {both:>7.1} us {:>6.2}",
        one / both
    );
    Ok(())
}
