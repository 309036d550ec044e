//! What Candle's kernels should compute, in f64 and one element after the other.

/// Numbers of a buffer, as f64.
pub fn read(bytes: &[u8]) -> Vec<f64> {
    let words = bytes.chunks_exact(4);
    words
        .map(|it| f64::from(f32::from_le_bytes([it[0], it[1], it[2], it[3]])))
        .collect()
}

/// What a buffer should hold afterwards.
pub enum Expected {
    Floats(Vec<f64>),
    Indices(Vec<u32>),
}

impl Expected {
    /// Compares: exactly, or as closely as sums in another order allow.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let differs = |at, is: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
            Err(format!("element {at} is {is}, not {wanted}"))
        };
        match self {
            Self::Floats(wanted) => {
                for (at, (is, wanted)) in read(bytes).iter().zip(wanted).enumerate() {
                    let close = (is - wanted).abs() <= 1e-4 * (1. + wanted.abs());
                    // NaN is not close to anything.
                    if !close {
                        return differs(at, is, wanted);
                    }
                }
            }
            Self::Indices(wanted) => {
                let words = bytes.chunks_exact(4);
                let words = words.map(|it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]));
                for (at, (is, wanted)) in words.zip(wanted).enumerate() {
                    if is != *wanted {
                        return differs(at, &is, wanted);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Each row through a function.
pub fn by_row(values: &[f64], columns: usize, op: impl Fn(&[f64]) -> Vec<f64>) -> Expected {
    Expected::Floats(values.chunks(columns).flat_map(op).collect())
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<_> = row.iter().map(|it| (it - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|it| it / sum).collect()
}

pub fn rms_norm(row: &[f64], alpha: &[f64], eps: f64) -> Vec<f64> {
    let mean = row.iter().map(|it| it * it).sum::<f64>() / row.len() as f64;
    let by = (mean + eps).sqrt();
    row.iter().zip(alpha).map(|(it, a)| it / by * a).collect()
}

pub fn layer_norm(row: &[f64], alpha: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let centered: Vec<_> = row.iter().map(|it| it - mean).collect();
    let normed = rms_norm(&centered, alpha, eps);
    normed.iter().zip(beta).map(|(it, b)| it + b).collect()
}

/// Where the values of each row go, the smallest first.
pub fn arg_sort(values: &[f64], columns: usize) -> Expected {
    let order = |row: &[f64]| {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|a, b| row[*a as usize].total_cmp(&row[*b as usize]));
        order
    };
    Expected::Indices(values.chunks(columns).flat_map(order).collect())
}

pub fn sorted(row: &[f64]) -> Vec<f64> {
    let mut row = row.to_vec();
    row.sort_by(f64::total_cmp);
    row
}

/// Products of `m` x `k` and `k` x `n`, one after the other.
pub fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> Expected {
    let mut out = Vec::new();
    for (a, b) in a.chunks(m * k).zip(b.chunks(k * n)) {
        for row in a.chunks(k) {
            let at = |column| {
                row.iter()
                    .zip(b.chunks(n))
                    .map(|(x, y)| x * y[column])
                    .sum::<f64>()
            };
            out.extend((0..n).map(at));
        }
    }
    Expected::Floats(out)
}

/// Attention of one head; `score` is added to the scores of a query and a key.
pub fn attention(
    [queries, keys, values]: [&[f64]; 3],
    width: usize,
    scale: f64,
    score: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let mut out = Vec::new();
    for (at, query) in queries.chunks(width).enumerate() {
        let dot = |key: &[f64]| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
        let scores = keys.chunks(width).enumerate();
        let scores: Vec<_> = scores
            .map(|(other, key)| dot(key) * scale + score(at, other))
            .collect();
        let weights = softmax(&scores);
        let sum = |column| {
            values
                .chunks(width)
                .zip(&weights)
                .map(|(v, w)| v[column] * w)
                .sum::<f64>()
        };
        out.extend((0..width).map(sum));
    }
    out
}
