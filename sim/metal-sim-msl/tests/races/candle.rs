//! How Candle's kernels are run in the mutants' tests: small, so that every thread is followed, and ragged, so that
//! the code for edges runs, too. Arguments are as candle-metal-kernels 0.11.1 gives them.

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
}

/// The dispatches of a file's kernels.
pub fn runs(file: &str) -> Vec<Run> {
    match file {
        "reduce.metal" => vec![
            rows("softmax_f32", &[]),
            rows("rmsnorm_f32", &[floats(COLUMNS), one(1e-5)]),
            rows(
                "layernorm_f32",
                &[floats(COLUMNS), floats(COLUMNS), one(1e-5)],
            ),
            sum(),
        ],
        "sort.metal" => vec![sort()],
        "mlx_sort.metal" => vec![block_sort(), blocks_sort(), merge()],
        "mlx_gemm.metal" => vec![gemm(64, 64, 32), gemm(33, 70, 45), gemm(64, 40, 32)],
        "scaled_dot_product_attention.metal" => vec![
            attention(33, 50, 64),
            attention(32, 32, 128),
            vector(),
            first_pass(),
            second_pass(),
        ],
        other => panic!("no runs for {other}"),
    }
}

const ROWS: usize = 3;
const COLUMNS: usize = 300;

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

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn zeros(count: usize) -> Vec<u8> {
    vec![0; 4 * count]
}

/// Numbered from 0.
fn numbered(buffers: Vec<Vec<u8>>) -> Vec<(usize, Vec<u8>)> {
    buffers.into_iter().enumerate().collect()
}

fn plain(kernel: &str, buffers: Vec<(usize, Vec<u8>)>, groups: [u32; 3], threads: [u32; 3]) -> Run {
    Run {
        kernel: kernel.to_owned(),
        constants: Vec::new(),
        buffers,
        threadgroup_memory: 0,
        groups,
        threads,
    }
}

/// An op on rows; further arguments come after the result.
fn rows(kernel: &str, more: &[Vec<u8>]) -> Run {
    let count = ROWS * COLUMNS;
    let mut buffers = vec![
        u32s(&[count as u32]),
        u32s(&[COLUMNS as u32]),
        floats(count),
        zeros(count),
    ];
    buffers.extend_from_slice(more);
    plain(kernel, numbered(buffers), [ROWS as u32, 1, 1], [256, 1, 1])
}

fn sum() -> Run {
    let count = ROWS * COLUMNS;
    let buffers = vec![
        u32s(&[count as u32]),
        u32s(&[1]),
        u32s(&[count as u32]),
        u32s(&[COLUMNS as u32]),
        floats(count),
        zeros(ROWS),
    ];
    plain(
        "fast_sum_f32",
        numbered(buffers),
        [ROWS as u32, 1, 1],
        [256, 1, 1],
    )
}

fn sort() -> Run {
    let (columns, padded) = (50, 64);
    let buffers = vec![
        floats(ROWS * columns),
        zeros(ROWS * columns),
        i64s(&[columns as i64]),
        i64s(&[padded]),
    ];
    Run {
        threadgroup_memory: 4 * padded as usize,
        ..plain(
            "asort_asc_f32",
            numbered(buffers),
            [1, ROWS as u32, 1],
            [padded as u32, 1, 1],
        )
    }
}

fn block_sort() -> Run {
    let columns = 500;
    let stride = u32s(&[columns]);
    let buffers = vec![
        floats(2 * columns as usize),
        zeros(2 * columns as usize),
        u32s(&[columns]),
        u32s(&[1]),
        u32s(&[1]),
        stride.clone(),
        stride,
    ];
    let kernel = "carg_block_sort_float32_uint32_bn128_tn8";
    plain(kernel, numbered(buffers), [1, 2, 1], [128, 1, 1])
}

/// Values of two blocks of the sort by several blocks.
const SORTED: usize = 2 * 512 * 8;

fn blocks_sort() -> Run {
    let buffers = vec![
        floats(SORTED),
        zeros(SORTED),
        zeros(SORTED),
        u32s(&[SORTED as u32]),
        u32s(&[1]),
        u32s(&[1]),
        u32s(&[1]),
        i64s(&[SORTED as i64]),
    ];
    let kernel = "sort_mbsort_float32_uint32_bn512_tn8";
    plain(kernel, numbered(buffers), [2, 1, 1], [512, 1, 1])
}

/// Two sorted blocks whose values alternate: half of each goes into each block of the result.
fn merge() -> Run {
    let half = SORTED / 2;
    let value = |at: usize| (2 * (at % half) + at / half) as f32;
    let values = (0..SORTED).flat_map(|at| value(at).to_le_bytes()).collect();
    let buffers = vec![
        u32s(&[0, half as u32 / 2, half as u32]),
        values,
        u32s(&(0..SORTED as u32).collect::<Vec<_>>()),
        zeros(SORTED),
        zeros(SORTED),
        u32s(&[SORTED as u32]),
        u32s(&[2]),
        u32s(&[2]),
    ];
    let kernel = "merge_mbsort_float32_uint32_bn512_tn8";
    plain(kernel, numbered(buffers), [2, 1, 1], [512, 1, 1])
}

/// Tiles of 32 x 32 x 16 on four simdgroups.
fn gemm(m: usize, n: usize, k: usize) -> Run {
    const TILE: usize = 32;
    const DEEP: usize = 16;
    let tiles = [n.div_ceil(TILE), m.div_ceil(TILE)];
    let ints = |values: &[usize]| u32s(&values.iter().map(|it| *it as u32).collect::<Vec<_>>());
    let mut params = ints(&[m, n, k, k, n, n, tiles[0], tiles[1]]);
    params.extend(i64s(&[(m * k) as i64, (k * n) as i64, (m * n) as i64]));
    params.extend(ints(&[0, k / DEEP, 1, 0]));
    let buffers = vec![
        (0, floats(m * k)),
        (1, floats(k * n)),
        (3, zeros(m * n)),
        (4, params),
        // Read although it is not in use: the kernel dereferences it (a finding of Candle's).
        (5, zeros(16)),
        (6, zeros(4)),
        (7, zeros(8)),
    ];
    let off = [10, 100, 110, 300].map(|index| (index, false));
    let aligned = [
        (200, m % TILE == 0),
        (201, n % TILE == 0),
        (202, k % DEEP == 0),
    ];
    Run {
        constants: off.into_iter().chain(aligned).collect(),
        ..plain(
            "gemm_nn_f32_f32_32_32_16_2_2",
            buffers,
            [tiles[0] as u32, tiles[1] as u32, 1],
            [32, 2, 2],
        )
    }
}

/// One batch, two heads.
fn attention(queries: usize, keys: usize, width: usize) -> Run {
    let heads = 2;
    let (bq, bk) = (32, if width < 128 { 32 } else { 16 });
    let ints = |values: &[usize]| u32s(&values.iter().map(|it| *it as u32).collect::<Vec<_>>());
    let mut params = ints(&[1, heads, width, queries, keys, 1]);
    params.extend(one(1. / (width as f32).sqrt()));
    params.extend(one(1.));
    params.extend(ints(&[
        queries.div_ceil(bq),
        keys.div_ceil(bk),
        queries / bq,
        keys / bk,
        queries % bq,
        keys % bk,
        keys.saturating_sub(queries),
        0,
    ]));
    for length in [queries, keys, keys, queries] {
        params.extend(i64s(&[
            (heads * length * width) as i64,
            (length * width) as i64,
            width as i64,
        ]));
    }
    let buffers = vec![
        floats(heads * queries * width),
        floats(heads * keys * width),
        floats(heads * keys * width),
        zeros(heads * queries * width),
        params,
    ];
    Run {
        constants: vec![
            (200, queries % bq == 0),
            (201, keys % bk == 0),
            (300, false),
            (301, false),
        ],
        ..plain(
            &format!("steel_attention_float32_bq{bq}_bk{bk}_bd{width}_wm4_wn1_maskfloat32"),
            numbered(buffers),
            [queries.div_ceil(bq) as u32, heads as u32, 1],
            [32, 4, 1],
        )
    }
}

/// Heads, keys and width of the kernels for one query.
const VECTOR: (usize, usize, usize) = (2, 77, 64);

fn vector_arguments() -> [Vec<u8>; 6] {
    let (_, keys, width) = VECTOR;
    let stride = i64s(&[(keys * width) as i64]);
    [
        u32s(&[1]),
        u32s(&[keys as u32]),
        stride.clone(),
        stride,
        one(0.125),
        one(1.),
    ]
}

fn vector() -> Run {
    let (heads, keys, width) = VECTOR;
    let mut buffers = vec![
        floats(heads * width),
        floats(heads * keys * width),
        floats(heads * keys * width),
        zeros(heads * width),
    ];
    buffers.extend(vector_arguments());
    Run {
        constants: vec![(20, false)],
        ..plain(
            "sdpa_vector_float_64",
            numbered(buffers),
            [1, heads as u32, 1],
            [1024, 1, 1],
        )
    }
}

fn first_pass() -> Run {
    let (heads, keys, width) = VECTOR;
    let mut buffers = vec![
        floats(heads * width),
        floats(heads * keys * width),
        floats(heads * keys * width),
        zeros(heads * 32 * width),
        zeros(heads * 32),
        zeros(heads * 32),
    ];
    buffers.extend(vector_arguments());
    Run {
        constants: vec![(20, false)],
        ..plain(
            "sdpa_vector_2pass_1_float_64",
            numbered(buffers),
            [1, heads as u32, 32],
            [256, 1, 1],
        )
    }
}

fn second_pass() -> Run {
    let (heads, _, width) = VECTOR;
    let buffers = vec![
        floats(heads * 32 * width),
        floats(heads * 32),
        floats(heads * 32),
        zeros(heads * width),
    ];
    plain(
        "sdpa_vector_2pass_2_float_64",
        numbered(buffers),
        [1, heads as u32, 1],
        [1024, 1, 1],
    )
}
