// Softmax and its logarithm along one dimension, and their gradients.
//
// The largest element and the sum of exponentials are found in one pass over a row: each thread corrects its sum when it
// finds a larger element, and the threads of a row correct theirs when they meet. A second pass writes.

constant bool LOG [[function_constant(0)]];      // the logarithm
constant bool BY_FOURS [[function_constant(1)]]; // rows begin and end at multiples of four neighbours
constant ushort SIMDGROUPS [[function_constant(16)]]; // that share a row

struct SoftmaxShape {
  Shape shape;
  Rows x;
  Rows y;
};

template <typename T>
KERNEL(512) softmax(device const T* x [[buffer(0)]],
                    device T* y [[buffer(1)]],
                    constant SoftmaxShape& at [[buffer(2)]],
                    PLACES) {
  threadgroup float shared[64];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  x += row_start(at.x, at.shape, team.row);
  y += row_start(at.y, at.shape, team.row);

  const Sums sums = sums_of_row(x, at.x.step, width, BY_FOURS, team);
  const float largest = reduce<Max>(sums.largest, SIMDGROUPS, simdgroup, lane, shared);
  const float sum = reduce<Add>(sums.relative_to(largest), SIMDGROUPS, simdgroup, lane, shared + 32);

  const float scale = LOG ? log(sum) : 1 / sum;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 shifted = load4(x + i) - largest;
      store4(y + i, LOG ? shifted - scale : exp(shifted) * scale);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float shifted = float(x[i * at.x.step]) - largest;
      y[i * at.y.step] = T(LOG ? shifted - scale : exp(shifted) * scale);
    }
  }
}

INSTANTIATE(softmax)

struct SoftmaxGradientShape {
  Shape shape;
  Rows y;
  Rows g;
  Rows dx;
};

// dx = y (g - sum of g y), and for the logarithm dx = g - exp(y) sum of g.
template <typename T>
KERNEL(512) softmax_gradient(device const T* y [[buffer(0)]],
                             device const T* g [[buffer(1)]],
                             device T* dx [[buffer(2)]],
                             constant SoftmaxGradientShape& at [[buffer(3)]],
                             PLACES) {
  threadgroup float shared[32];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  y += row_start(at.y, at.shape, team.row);
  g += row_start(at.g, at.shape, team.row);
  dx += row_start(at.dx, at.shape, team.row);

  float part = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 slope = load4(g + i);
      part += LOG ? sum4(slope) : dot(slope, load4(y + i));
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float slope = float(g[i * at.g.step]);
      part += LOG ? slope : slope * float(y[i * at.y.step]);
    }
  }
  const float sum = reduce<Add>(part, SIMDGROUPS, simdgroup, lane, shared);

  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 slope = load4(g + i), result = load4(y + i);
      store4(dx + i, LOG ? slope - exp(result) * sum : result * (slope - sum));
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float slope = float(g[i * at.g.step]), result = float(y[i * at.y.step]);
      dx[i * at.dx.step] = T(LOG ? slope - exp(result) * sum : result * (slope - sum));
    }
  }
}

INSTANTIATE(softmax_gradient)
