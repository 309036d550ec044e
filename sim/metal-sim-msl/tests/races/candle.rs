//! How Candle's kernels are run in the mutants' tests: small, so that every thread is followed, and ragged, so that
//! the code for edges runs, too. Arguments are as candle-metal-kernels 0.11.1 gives them; that they are understood
//! shows in the results.

use metal_sim_msl::FindingKind;

use super::oracle::{self, Expected, read};

/// The files whose barriers are taken away.
pub const FILES: [&str; 5] = [
    "reduce.metal",
    "sort.metal",
    "mlx_sort.metal",
    "mlx_gemm.metal",
    "scaled_dot_product_attention.metal",
];

/// One dispatch.
pub struct Run {
    pub kernel: String,
    /// Function constants that are booleans, by index.
    pub constants: Vec<(u32, bool)>,
    pub buffers: Vec<(usize, Vec<u8>)>,
    /// Bytes of the first threadgroup argument.
    pub threadgroup_memory: usize,
    pub groups: [u32; 3],
    pub threads: [u32; 3],
    /// The buffer with the result, and what it is.
    pub result: Option<(usize, Expected)>,
    /// What is found in the kernel as it is, and the line: `docs/candle-findings.md` has the reasons.
    pub known: &'static [(FindingKind, u32)],
}

/// The dispatches of a file's kernels.
pub fn runs(file: &str) -> Vec<Run> {
    match file {
        "reduce.metal" => vec![softmax(), rms_norm(), layer_norm(), sum()],
        "sort.metal" => vec![sort()],
        "mlx_sort.metal" => vec![block_sort(), blocks_sort(), merge()],
        "mlx_gemm.metal" => vec![
            gemm(1, [64, 64, 32]),
            gemm(1, [33, 70, 45]),
            gemm(2, [64, 40, 32]),
            gemm(2, [40, 64, 40]),
            gemm(1, [64, 32, 40]),
        ],
        "scaled_dot_product_attention.metal" => vec![
            vector(),
            first_pass(),
            second_pass(),
            Attention::new(33, 50, 64).run(),
            Attention::new(64, 64, 64).causal().run(),
            Attention::new(33, 50, 64).masked().run(),
            Attention::new(32, 48, 128).run(),
            Attention::new(40, 40, 128).causal().run(),
        ],
        other => panic!("no runs for {other}"),
    }
}

const ROWS: usize = 3;
const COLUMNS: usize = 300;
const EPS: f32 = 1e-5;

/// The same numbers at every run, between -1 and 1.
fn floats(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..count)
        .flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.).to_le_bytes()
        })
        .collect()
}

fn one(value: f32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn ints(values: &[usize]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|it| (*it as u32).to_le_bytes())
        .collect()
}

fn longs(values: &[usize]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|it| (*it as u64).to_le_bytes())
        .collect()
}

fn zeros(count: usize) -> Vec<u8> {
    vec![0; 4 * count]
}

/// Buffers numbered from 0.
fn plain(kernel: &str, buffers: Vec<Vec<u8>>, groups: [usize; 3], threads: [usize; 3]) -> Run {
    let size = |size: [usize; 3]| size.map(|it| it as u32);
    Run {
        kernel: kernel.to_owned(),
        constants: Vec::new(),
        buffers: buffers.into_iter().enumerate().collect(),
        threadgroup_memory: 0,
        groups: size(groups),
        threads: size(threads),
        result: None,
        known: &[],
    }
}

impl Run {
    fn gives(mut self, buffer: usize, expected: Expected) -> Self {
        self.result = Some((buffer, expected));
        self
    }

    fn known(self, known: &'static [(FindingKind, u32)]) -> Self {
        Self { known, ..self }
    }
}

/// An op on rows; further arguments come after the result.
fn rows(kernel: &str, more: &[Vec<u8>], op: impl Fn(&[f64]) -> Vec<f64>) -> Run {
    let count = ROWS * COLUMNS;
    let input = floats(count);
    let expected = oracle::by_row(&read(&input), COLUMNS, op);
    let mut buffers = vec![ints(&[count]), ints(&[COLUMNS]), input, zeros(count)];
    buffers.extend_from_slice(more);
    plain(kernel, buffers, [ROWS, 1, 1], [256, 1, 1]).gives(3, expected)
}

fn softmax() -> Run {
    rows("softmax_f32", &[], oracle::softmax)
}

fn rms_norm() -> Run {
    let alpha = floats(COLUMNS);
    let numbers = read(&alpha);
    rows("rmsnorm_f32", &[alpha, one(EPS)], |row| {
        oracle::rms_norm(row, &numbers, EPS.into())
    })
}

fn layer_norm() -> Run {
    let (alpha, beta) = (floats(COLUMNS), floats(2 * COLUMNS).split_off(4 * COLUMNS));
    let numbers = [read(&alpha), read(&beta)];
    rows("layernorm_f32", &[alpha, beta, one(EPS)], |row| {
        oracle::layer_norm(row, &numbers[0], &numbers[1], EPS.into())
    })
}

fn sum() -> Run {
    let count = ROWS * COLUMNS;
    let input = floats(count);
    let expected = oracle::by_row(&read(&input), COLUMNS, |row| vec![row.iter().sum()]);
    let buffers = vec![
        ints(&[count]),
        ints(&[1]),
        ints(&[count]),
        ints(&[COLUMNS]),
        input,
        zeros(ROWS),
    ];
    plain("fast_sum_f32", buffers, [ROWS, 1, 1], [256, 1, 1]).gives(5, expected)
}

fn sort() -> Run {
    let (columns, padded) = (50, 64);
    let input = floats(ROWS * columns);
    let expected = oracle::arg_sort(&read(&input), columns);
    let buffers = vec![
        input,
        zeros(ROWS * columns),
        longs(&[columns]),
        longs(&[padded]),
    ];
    Run {
        threadgroup_memory: 4 * padded,
        ..plain("asort_asc_f32", buffers, [1, ROWS, 1], [padded, 1, 1]).gives(1, expected)
    }
}

fn block_sort() -> Run {
    let columns = 500;
    let input = floats(2 * columns);
    let expected = oracle::arg_sort(&read(&input), columns);
    let buffers = vec![
        input,
        zeros(2 * columns),
        ints(&[columns]),
        ints(&[1]),
        ints(&[1]),
        ints(&[columns]),
        ints(&[columns]),
    ];
    let kernel = "carg_block_sort_float32_uint32_bn128_tn8";
    plain(kernel, buffers, [1, 2, 1], [128, 1, 1]).gives(1, expected)
}

/// Values of a block of the sort by several blocks.
const BLOCK: usize = 512 * 8;

fn blocks_sort() -> Run {
    // The second block is not full.
    let count = 2 * BLOCK - 100;
    let input = floats(count);
    let expected = oracle::by_row(&read(&input), BLOCK, oracle::sorted);
    let buffers = vec![
        input,
        zeros(count),
        zeros(count),
        ints(&[count]),
        ints(&[1]),
        ints(&[1]),
        ints(&[1]),
        longs(&[count]),
    ];
    let kernel = "sort_mbsort_float32_uint32_bn512_tn8";
    // The last thread looks at the element after the last one, and does not use it.
    let known = &[(FindingKind::OutOfBounds, 213)];
    plain(kernel, buffers, [2, 1, 1], [512, 1, 1])
        .gives(1, expected)
        .known(known)
}

/// Two sorted blocks whose values alternate: half of each goes into each block of the result.
fn merge() -> Run {
    let count = 2 * BLOCK;
    let value = |at: usize| (2 * (at % BLOCK) + at / BLOCK) as f32;
    let values: Vec<u8> = (0..count).flat_map(|at| value(at).to_le_bytes()).collect();
    let expected = Expected::Floats(oracle::sorted(&read(&values)));
    let buffers = vec![
        // What the kernel that comes before finds.
        ints(&[0, BLOCK / 2, BLOCK]),
        values,
        u32s(&(0..count as u32).collect::<Vec<_>>()),
        zeros(count),
        zeros(count),
        ints(&[count]),
        ints(&[2]),
        ints(&[2]),
    ];
    let kernel = "merge_mbsort_float32_uint32_bn512_tn8";
    plain(kernel, buffers, [2, 1, 1], [512, 1, 1]).gives(3, expected)
}

/// Tiles of 32 x 32 x 16 on four simdgroups.
fn gemm(batch: usize, [m, n, k]: [usize; 3]) -> Run {
    const TILE: usize = 32;
    const DEEP: usize = 16;
    let tiles = [n.div_ceil(TILE), m.div_ceil(TILE)];
    let strides = [m * k, k * n, m * n];
    let (a, b) = (floats(batch * m * k), floats(batch * k * n));
    let expected = oracle::product(&read(&a), &read(&b), [m, n, k]);
    let mut params = ints(&[m, n, k, k, n, n, tiles[0], tiles[1]]);
    params.extend(longs(&strides));
    params.extend(ints(&[0, k / DEEP, 1, 0]));
    let constants = vec![
        (10, batch > 1),
        (100, false),
        (110, false),
        (200, m % TILE == 0),
        (201, n % TILE == 0),
        (202, k % DEEP == 0),
        (300, false),
    ];
    let kernel = "gemm_nn_f32_f32_32_32_16_2_2";
    Run {
        constants,
        // Candle gives none for 2 and 5, whose function constant is off.
        buffers: vec![
            (0, a),
            (1, b),
            (3, zeros(batch * m * n)),
            (4, params),
            (6, ints(&[batch])),
            (7, longs(&strides[..2])),
        ],
        ..plain(kernel, Vec::new(), [tiles[0], tiles[1], batch], [32, 2, 2]).gives(3, expected)
    }
}

const BATCH: usize = 2;
const HEADS: usize = 2;

/// Attention in blocks: two batches, two heads of queries, one of keys.
struct Attention {
    queries: usize,
    keys: usize,
    width: usize,
    causal: bool,
    masked: bool,
}

impl Attention {
    fn new(queries: usize, keys: usize, width: usize) -> Self {
        Self {
            queries,
            keys,
            width,
            causal: false,
            masked: false,
        }
    }

    fn causal(self) -> Self {
        Self {
            causal: true,
            ..self
        }
    }

    fn masked(self) -> Self {
        Self {
            masked: true,
            ..self
        }
    }

    fn run(self) -> Run {
        let Self {
            queries,
            keys,
            width,
            causal,
            masked,
        } = self;
        let (bq, bk) = (32, if width < 128 { 32 } else { 16 });
        let q = floats(BATCH * HEADS * queries * width);
        let [k, v] = [keys * width, keys * width + 1]
            .map(|skip| floats(skip + BATCH * keys * width).split_off(4 * skip));
        let mask = floats(queries * keys);
        let scale = 1. / (width as f32).sqrt();
        let params = [
            ints(&[BATCH, HEADS, width, queries, keys, HEADS]),
            one(scale),
            one(1.),
            ints(&[queries.div_ceil(bq), keys.div_ceil(bk)]),
            ints(&[queries / bq, keys / bk, queries % bq, keys % bk]),
            ints(&[keys - queries, 0]),
            longs(&[HEADS * queries * width, queries * width, width]),
            longs(&[keys * width, keys * width, width]),
            longs(&[keys * width, keys * width, width]),
            longs(&[HEADS * queries * width, queries * width, width]),
        ];
        let expected = self.expected([&q, &k, &v].map(|it| read(it)), &read(&mask), scale);
        let mut buffers = vec![q.clone(), k, v, zeros(q.len() / 4), params.concat()];
        if masked {
            buffers.extend([longs(&[0, 0, keys]), mask]);
        }
        let kernel = format!("steel_attention_float32_bq{bq}_bk{bk}_bd{width}_wm4_wn1_maskfloat32");
        let run = Run {
            constants: vec![
                (200, queries % bq == 0),
                (201, keys % bk == 0),
                (300, masked),
                (301, causal),
            ],
            ..plain(
                &kernel,
                buffers,
                [queries.div_ceil(bq), HEADS, BATCH],
                [32, 4, 1],
            )
        };
        if causal && keys % bk != 0 {
            // Keys past the end are read, and the result is whatever they hold.
            run.known(&[(FindingKind::OutOfBounds, 868)])
        } else {
            run.gives(3, expected)
        }
    }

    fn expected(&self, [q, k, v]: [Vec<f64>; 3], mask: &[f64], scale: f32) -> Expected {
        let (one, other) = (self.queries * self.width, self.keys * self.width);
        let score = |query: usize, key: usize| {
            if self.causal && key > query + self.keys - self.queries {
                f64::NEG_INFINITY
            } else if self.masked {
                mask[query * self.keys + key]
            } else {
                0.
            }
        };
        let head = |(at, q): (usize, &[f64])| {
            let of = |all: &'_ [f64]| all[at / HEADS * other..][..other].to_vec();
            oracle::attention([q, &of(&k), &of(&v)], self.width, scale.into(), score)
        };
        Expected::Floats(q.chunks(one).enumerate().flat_map(head).collect())
    }
}

/// Keys and width of the kernels for one query.
const KEYS: usize = 77;
const WIDTH: usize = 64;
const SCALE: f32 = 0.125;
/// Blocks of the kernels with two passes, and keys that a block has side by side.
const BLOCKS: usize = 32;
const SIDE: usize = 8;

/// Queries, keys and values, and the arguments after the results.
fn vector_arguments() -> ([Vec<u8>; 3], [Vec<u8>; 6]) {
    let stride = longs(&[KEYS * WIDTH]);
    let arguments = [
        ints(&[1]),
        ints(&[KEYS]),
        stride.clone(),
        stride,
        one(SCALE),
        one(1.),
    ];
    let keys = floats(HEADS * KEYS * WIDTH);
    let values = keys.iter().rev().copied().collect::<Vec<_>>();
    // Backwards the bytes of a number would be another number.
    let values = values.chunks(4).flat_map(|it| it.iter().rev().copied());
    (
        [floats(HEADS * WIDTH), keys.clone(), values.collect()],
        arguments,
    )
}

fn vector() -> Run {
    let ([q, k, v], arguments) = vector_arguments();
    let [queries, keys, values] = [&q, &k, &v].map(|it| read(it));
    let head = |head: usize| {
        let of = |all: &'_ [f64]| all[head * KEYS * WIDTH..][..KEYS * WIDTH].to_vec();
        let query = &queries[head * WIDTH..][..WIDTH];
        oracle::attention(
            [query, &of(&keys), &of(&values)],
            WIDTH,
            SCALE.into(),
            |_, _| 0.,
        )
    };
    let expected = Expected::Floats((0..HEADS).flat_map(head).collect());
    let mut buffers = vec![q, k, v, zeros(HEADS * WIDTH)];
    buffers.extend(arguments);
    Run {
        constants: vec![(20, false)],
        ..plain("sdpa_vector_float_64", buffers, [1, HEADS, 1], [1024, 1, 1]).gives(3, expected)
    }
}

/// Its results are sums, maxima and outputs of each block; the maxima are looked at.
fn first_pass() -> Run {
    let ([q, k, v], arguments) = vector_arguments();
    let [queries, keys] = [&q, &k].map(|it| read(it));
    let most = |at: usize| {
        let (head, block) = (at / BLOCKS, at % BLOCKS);
        let query = &queries[head * WIDTH..][..WIDTH];
        let mine = keys[head * KEYS * WIDTH..][..KEYS * WIDTH].chunks(WIDTH);
        let scores = mine.skip(block * SIDE).take(SIDE);
        let score = |key: &[f64]| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
        scores
            .map(|key| score(key) * f64::from(SCALE))
            .fold(-1e9, f64::max)
    };
    let expected = Expected::Floats((0..HEADS * BLOCKS).map(most).collect());
    let mut buffers = vec![
        q,
        k,
        v,
        zeros(HEADS * BLOCKS * WIDTH),
        zeros(HEADS * BLOCKS),
        zeros(HEADS * BLOCKS),
    ];
    buffers.extend(arguments);
    let kernel = "sdpa_vector_2pass_1_float_64";
    let run = plain(kernel, buffers, [1, HEADS, BLOCKS], [32 * SIDE, 1, 1]);
    Run {
        constants: vec![(20, false)],
        // All lanes of a simdgroup write the same sum and the same maximum.
        ..run
            .gives(5, expected)
            .known(&[(FindingKind::Race, 554), (FindingKind::Race, 555)])
    }
}

fn second_pass() -> Run {
    let (partials, maxs) = (floats(HEADS * BLOCKS * WIDTH), floats(HEADS * BLOCKS));
    let sums: Vec<f32> = (0..HEADS * BLOCKS).map(|at| 1. + at as f32).collect();
    let head = |head: usize| {
        let of_head =
            |all: &[f64], each: usize| all[head * BLOCKS * each..][..BLOCKS * each].to_vec();
        let (parts, most) = (of_head(&read(&partials), WIDTH), of_head(&read(&maxs), 1));
        let factors: Vec<_> = most.iter().map(|it| it.exp()).collect();
        let weights = factors.iter().zip(&sums[head * BLOCKS..]);
        let all: f64 = weights.map(|(factor, sum)| factor * f64::from(*sum)).sum();
        let sum = move |column: usize| {
            let blocks = parts.chunks(WIDTH).zip(&factors);
            blocks
                .map(|(part, factor)| part[column] * factor)
                .sum::<f64>()
                / all
        };
        (0..WIDTH).map(sum).collect::<Vec<_>>()
    };
    let expected = Expected::Floats((0..HEADS).flat_map(head).collect());
    let sums = sums.iter().flat_map(|it| it.to_le_bytes()).collect();
    let buffers = vec![partials, sums, maxs, zeros(HEADS * WIDTH)];
    let kernel = "sdpa_vector_2pass_2_float_64";
    plain(kernel, buffers, [1, HEADS, 1], [1024, 1, 1]).gives(3, expected)
}
