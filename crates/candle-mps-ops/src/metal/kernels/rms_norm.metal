// RMS norm over the last dimension, and its gradients: y = x w r with r = 1 / sqrt(mean of x^2 + eps).

constant bool WEIGHT [[function_constant(0)]];        // there is one
constant bool BY_FOURS [[function_constant(1)]];      // rows begin and end at multiples of four neighbours
constant bool KEEP [[function_constant(2)]];          // r, for the gradient of the weight
constant ushort SIMDGROUPS [[function_constant(16)]]; // that share a row

struct RmsNormShape {
  Shape shape;
  Rows x;
  Rows y;
  Vector weight;
  float eps;
  float inverse_width;
};

template <typename T>
KERNEL(512) rms_norm(device const T* x [[buffer(0)]],
                     device const T* weight [[buffer(1), function_constant(WEIGHT)]],
                     device T* y [[buffer(2)]],
                     constant RmsNormShape& at [[buffer(3)]],
                     PLACES) {
  threadgroup float shared[32];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  x += row_start(at.x, at.shape, team.row);
  y += row_start(at.y, at.shape, team.row);
  if (WEIGHT) weight += at.weight.start;

  float squares = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 v = load4(x + i);
      squares += dot(v, v);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float v = float(x[i * at.x.step]);
      squares += v * v;
    }
  }
  squares = reduce<Add>(squares, SIMDGROUPS, simdgroup, lane, shared);
  const float r = 1 / sqrt(squares * at.inverse_width + at.eps);

  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      store4(y + i, load4(x + i) * r * (WEIGHT ? load4(weight + i) : float4(1)));
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float scale = WEIGHT ? float(weight[i * at.weight.step]) : 1;
      y[i * at.y.step] = T(float(x[i * at.x.step]) * r * scale);
    }
  }
}

INSTANTIATE(rms_norm)

struct RmsNormGradientShape {
  Shape shape;
  Rows x;
  Rows g;
  Rows dx;
  Vector weight;
  float eps;
  float inverse_width;
};

// With h = g w: dx = r h - x r^3 mean(h x).
template <typename T>
KERNEL(512) rms_norm_gradient(device const T* x [[buffer(0)]],
                              device const T* g [[buffer(1)]],
                              device const T* weight [[buffer(2), function_constant(WEIGHT)]],
                              device T* dx [[buffer(3)]],
                              device float* kept [[buffer(4), function_constant(KEEP)]],
                              constant RmsNormGradientShape& at [[buffer(5)]],
                              PLACES) {
  threadgroup float shared[64];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  x += row_start(at.x, at.shape, team.row);
  g += row_start(at.g, at.shape, team.row);
  dx += row_start(at.dx, at.shape, team.row);
  if (WEIGHT) weight += at.weight.start;

  float squares = 0, along = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 v = load4(x + i), h = load4(g + i) * (WEIGHT ? load4(weight + i) : float4(1));
      squares += dot(v, v);
      along += dot(h, v);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float v = float(x[i * at.x.step]);
      squares += v * v;
      along += v * float(g[i * at.g.step]) * (WEIGHT ? float(weight[i * at.weight.step]) : 1);
    }
  }
  squares = reduce<Add>(squares, SIMDGROUPS, simdgroup, lane, shared);
  along = reduce<Add>(along, SIMDGROUPS, simdgroup, lane, shared + 32);
  const float r = 1 / sqrt(squares * at.inverse_width + at.eps);
  const float back = along * at.inverse_width * r * r * r;
  if (KEEP && team.first == 0) kept[team.row] = r;

  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 h = load4(g + i) * (WEIGHT ? load4(weight + i) : float4(1));
      store4(dx + i, h * r - load4(x + i) * back);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float h = float(g[i * at.g.step]) * (WEIGHT ? float(weight[i * at.weight.step]) : 1);
      dx[i * at.dx.step] = T(h * r - float(x[i * at.x.step]) * back);
    }
  }
}

INSTANTIATE(rms_norm_gradient)

struct RmsNormWeightShape {
  Shape shape;
  Rows x;
  Rows g;
};

// dw = sum over the rows of g x r. A lane for each column, a simdgroup for each of some rows.
template <typename T>
KERNEL(512) rms_norm_weight_gradient(device const T* x [[buffer(0)]],
                                     device const T* g [[buffer(1)]],
                                     device const float* kept [[buffer(2)]],
                                     device T* dw [[buffer(3)]],
                                     constant RmsNormWeightShape& at [[buffer(4)]],
                                     PLACES) {
  threadgroup float shared[16 * 32];
  const uint column = group * 32 + lane;
  float sum = 0;
  if (column < at.shape.width) {
    for (uint row = simdgroup; row < at.shape.rows; row += all_simdgroups) {
      const float v = float(x[row_start(at.x, at.shape, row) + column * at.x.step]);
      sum += kept[row] * v * float(g[row_start(at.g, at.shape, row) + column * at.g.step]);
    }
  }
  sum = sum_of_column(sum, all_simdgroups, simdgroup, lane, shared);
  if (simdgroup == 0 && column < at.shape.width) dw[column] = T(sum);
}

INSTANTIATE(rms_norm_weight_gradient)
