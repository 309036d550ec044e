//! `verify --device metal`: every op, by the route that the table chooses, the ops of MPS, what Metal and MPS
//! promise, and what they leave open. AdamW has no kernel of ours there; its rows say so, and have no figures.

use candle_core::{DType, Device};

use super::mps::{self, MpsOp};
use super::progress::Progress;
use super::random::Random;
use super::tally::{Tally, Told};
use super::{Arguments, Error, cases, check_names, compare, conformance, names, panics};
use crate::results::Pass;
use crate::results::verify::{Row, Verify};

const PASSES: [Pass; 2] = [Pass::Forward, Pass::Backward];

/// What Metal computes with; f64 is not among it.
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

const NOT_BUILT: &str = "no Metal kernel of ours, a composition of Candle's ops";

pub fn on_metal(arguments: &Arguments) -> Result<Verify, Error> {
    check_names(arguments, mps::OPS.iter().map(|op| op.name).chain(names()))?;
    let device = candle_mps::metal::device(0).map_err(|source| Error::NoDevice { source })?;
    let wanted = || mps::OPS.iter().filter(|op| arguments.wants(op.name));
    let fused = || cases::OPS.iter().filter(|op| arguments.wants(op.name));
    let whole = arguments.ops.is_empty();
    let promises = if whole { conformance::count() } else { 0 };
    let count = wanted().count() * mps::DTYPES.len() + fused().count() * DTYPES.len();
    let progress = Progress::new(count + promises);
    let (mut rows, conformance, probes) = panics::kept(|| {
        let mut rows = Vec::new();
        for op in wanted() {
            for dtype in mps::DTYPES {
                rows.extend(rows_of(op, dtype, &device, arguments));
                progress.step(op.name);
            }
        }
        for op in fused() {
            for dtype in DTYPES {
                rows.extend(super::rows_of(op, dtype, &device, arguments));
                progress.step(op.name);
            }
        }
        let conformance = whole.then(|| conformance::ask(|name| progress.step(name)));
        let probe = || conformance::probe(|question| progress.step(question));
        let probes = if whole { probe() } else { Vec::new() };
        (rows, conformance, probes)
    });
    let adamw = super::adamw::NAME;
    if arguments.wants(adamw) {
        let bound = |dtype| compare::bound(dtype, Pass::Step);
        let row = |dtype| Tally::new(adamw, dtype, Pass::Step, bound(dtype)).not_built(NOT_BUILT);
        rows.extend(DTYPES.map(row));
    }
    let mut results = arguments.results(rows);
    results.ok &= conformance.as_ref().is_none_or(|it| it.broken.is_empty());
    results.conformance = conformance;
    results.probes = probes;
    Ok(results)
}

fn rows_of(op: &MpsOp, dtype: DType, device: &Device, arguments: &Arguments) -> [Row; 2] {
    let mut tallies =
        PASSES.map(|pass| Tally::new(op.name, dtype, pass, op.bound(dtype, pass)).of_mps());
    for seed in arguments.rounds() {
        let mut random = Random::of(seed, &[op.name, dtype.as_str()]);
        let case = (op.draw)(&mut random);
        let told = Told::of("", &case, arguments.replay(op.name, seed));
        for (tally, passed) in tallies
            .iter_mut()
            .zip(op.check(&case, dtype, device, &mut random))
        {
            tally.add(passed, &told);
        }
    }
    tallies.map(Tally::done)
}
