// The mean over the rows of ln(sum of exp(x)) - x[target], and its gradient.
//
// A small problem is one threadgroup's, so that one dispatch does all of it. For a large one that would leave most of
// the GPU idle: one dispatch finds the logarithm of each row's sum, another one the mean.

constant bool BY_FOURS [[function_constant(0)]];      // rows begin and end at multiples of four neighbours
constant bool IGNORES [[function_constant(1)]];       // rows with a certain target do not count
constant ushort SIMDGROUPS [[function_constant(16)]]; // that share a row
constant ushort INDEX [[function_constant(17)]];      // the type of targets. 0: u8, 1: u32, 2: i64

struct LossShape {
  Shape shape;
  Rows x;
  Rows targets;
  Rows dx;
  long ignored;
};

// A target that is no class, and one of a row that does not count.
constant uint NO_CLASS = 0xffffffff;
constant uint NO_ROW = 0xfffffffe;

inline uint target_of(device const uchar* targets, constant LossShape& at, uint row) {
  const ulong place = row_start(at.targets, at.shape, row);
  long target;
  if (INDEX == 0) {
    target = targets[place];
  } else if (INDEX == 1) {
    target = reinterpret_cast<device const uint*>(targets)[place];
  } else {
    target = reinterpret_cast<device const long*>(targets)[place];
  }
  if (IGNORES && target == at.ignored) return NO_ROW;
  return target >= 0 && target < long(at.shape.width) ? uint(target) : NO_CLASS;
}

// The logarithm of a row's sum, the loss, and 1 if the row counts. The target's element is read by one thread.
struct Loss {
  float log_sum;
  float loss;
  float counts;
};

template <typename T>
inline Loss loss_of(device const T* x, uint target, constant LossShape& at, float log_sum) {
  if (target == NO_ROW) return {log_sum, 0, 0};
  return {log_sum, target == NO_CLASS ? NAN : log_sum - float(x[target * at.x.step]), 1};
}

// All rows by one threadgroup, each simdgroup takes one after the other. `kept` gets the logarithms and, behind them,
// the number of rows that count.
template <typename T>
KERNEL(512) cross_entropy_at_once(device const T* x [[buffer(0)]],
                                  device const uchar* targets [[buffer(1)]],
                                  device T* mean [[buffer(2)]],
                                  device float* kept [[buffer(3)]],
                                  constant LossShape& at [[buffer(4)]],
                                  PLACES) {
  threadgroup float2 shared[32];
  float2 sum = 0;
  for (uint row = simdgroup; row < at.shape.rows; row += all_simdgroups) {
    device const T* its = x + row_start(at.x, at.shape, row);
    const Sums sums = sums_of_row(its, at.x.step, at.shape.width, BY_FOURS, Team{row, lane, 32});
    const float largest = simd_max(sums.largest);
    const float log_sum = largest + log(simd_sum(sums.relative_to(largest)));
    if (lane == 0) {
      const Loss loss = loss_of(its, target_of(targets, at, row), at, log_sum);
      kept[row] = log_sum;
      sum += float2(loss.loss, loss.counts);
    }
  }
  if (lane == 0) shared[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (place == 0) {
    for (uint other = 1; other < all_simdgroups; other++) sum += shared[other];
    mean[0] = T(sum.x / max(sum.y, 1.0f));
    kept[at.shape.rows] = sum.y;
  }
}

INSTANTIATE(cross_entropy_at_once)

// Each row's logarithm, and behind all of them each row's loss and whether it counts.
template <typename T>
KERNEL(512) cross_entropy_rows(device const T* x [[buffer(0)]],
                               device const uchar* targets [[buffer(1)]],
                               device float* kept [[buffer(2)]],
                               device float2* losses [[buffer(3)]],
                               constant LossShape& at [[buffer(4)]],
                               PLACES) {
  threadgroup float shared[64];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  x += row_start(at.x, at.shape, team.row);
  const Sums sums = sums_of_row(x, at.x.step, at.shape.width, BY_FOURS, team);
  const float largest = reduce<Max>(sums.largest, SIMDGROUPS, simdgroup, lane, shared);
  const float sum = reduce<Add>(sums.relative_to(largest), SIMDGROUPS, simdgroup, lane, shared + 32);
  if (team.first == 0) {
    const Loss loss = loss_of(x, target_of(targets, at, team.row), at, largest + log(sum));
    kept[team.row] = loss.log_sum;
    losses[team.row] = float2(loss.loss, loss.counts);
  }
}

INSTANTIATE(cross_entropy_rows)

// The mean of what `cross_entropy_rows` left, by one threadgroup.
template <typename T>
KERNEL(512) cross_entropy_mean(device const float2* losses [[buffer(0)]],
                               device T* mean [[buffer(1)]],
                               device float* kept [[buffer(2)]],
                               constant uint& rows [[buffer(3)]],
                               PLACES) {
  threadgroup float shared[64];
  float2 part = 0;
  for (uint row = place; row < rows; row += all_simdgroups * 32) part += losses[row];
  const float sum = reduce<Add>(part.x, SIMDGROUPS, simdgroup, lane, shared);
  const float count = reduce<Add>(part.y, SIMDGROUPS, simdgroup, lane, shared + 32);
  if (place == 0) {
    mean[0] = T(sum / max(count, 1.0f));
    kept[rows] = count;
  }
}

INSTANTIATE(cross_entropy_mean)

// dx = g / rows (softmax(x) - [the target]). A thread has four elements of a row, or up to four.
template <typename T>
KERNEL(256) cross_entropy_gradient(device const T* x [[buffer(0)]],
                                   device const uchar* targets [[buffer(1)]],
                                   device const float* kept [[buffer(2)]],
                                   device const T* g [[buffer(3)]],
                                   device T* dx [[buffer(4)]],
                                   constant LossShape& at [[buffer(5)]],
                                   uint2 place [[thread_position_in_grid]]) {
  const uint first = 4 * place.x, row = place.y, width = at.shape.width;
  if (first >= width) return;
  const uint target = target_of(targets, at, row);
  const float log_sum = kept[row];
  const float each = float(g[0]) / max(kept[at.shape.rows], 1.0f);
  const float scale = target == NO_ROW ? 0 : target == NO_CLASS ? NAN : each;
  x += row_start(at.x, at.shape, row);
  dx += row_start(at.dx, at.shape, row);
  for (uint i = first; i < min(first + 4, width); i++) {
    const float share = target == NO_ROW ? 0 : exp(float(x[i * at.x.step]) - log_sum);
    dx[i * at.dx.step] = T(scale * (share - (i == target ? 1 : 0)));
  }
}

INSTANTIATE(cross_entropy_gradient)
