// Layer norm over the last dimension, and its gradients: y = n w + b with n = (x - mean) r and
// r = 1 / sqrt(variance + eps). The variance takes a second pass over the differences from the mean, so that a large
// mean costs no digits.

constant bool BIAS [[function_constant(0)]];          // there is one
constant bool BY_FOURS [[function_constant(1)]];      // rows begin and end at multiples of four neighbours
constant bool KEEP [[function_constant(2)]];          // mean and r, for the gradients of weight and bias
constant bool WEIGHT [[function_constant(3)]];        // its gradient is wanted, or that of the bias
constant ushort SIMDGROUPS [[function_constant(16)]]; // that share a row

struct LayerNormShape {
  Shape shape;
  Rows x;
  Rows y;
  Vector weight;
  Vector bias;
  float eps;
  float inverse_width;
};

// Mean and r of a row that begins at x. `shared` has 64 places.
template <typename T>
inline float2 statistics(device const T* x, ulong step, uint width, float eps, float inverse_width, Team team,
                         ushort simdgroup, ushort lane, threadgroup float* shared) {
  float sum = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) sum += sum4(load4(x + i));
  } else {
    for (uint i = team.first; i < width; i += team.size) sum += float(x[i * step]);
  }
  const float mean = reduce<Add>(sum, SIMDGROUPS, simdgroup, lane, shared) * inverse_width;

  float squares = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 v = load4(x + i) - mean;
      squares += dot(v, v);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float v = float(x[i * step]) - mean;
      squares += v * v;
    }
  }
  squares = reduce<Add>(squares, SIMDGROUPS, simdgroup, lane, shared + 32);
  return float2(mean, 1 / sqrt(squares * inverse_width + eps));
}

template <typename T>
KERNEL(512) layer_norm(device const T* x [[buffer(0)]],
                       device const T* weight [[buffer(1)]],
                       device const T* bias [[buffer(2), function_constant(BIAS)]],
                       device T* y [[buffer(3)]],
                       constant LayerNormShape& at [[buffer(4)]],
                       PLACES) {
  threadgroup float shared[64];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  x += row_start(at.x, at.shape, team.row);
  y += row_start(at.y, at.shape, team.row);
  weight += at.weight.start;
  if (BIAS) bias += at.bias.start;
  const float2 of = statistics(x, at.x.step, width, at.eps, at.inverse_width, team, simdgroup, lane, shared);

  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 normal = (load4(x + i) - of.x) * of.y;
      store4(y + i, normal * load4(weight + i) + (BIAS ? load4(bias + i) : float4(0)));
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float normal = (float(x[i * at.x.step]) - of.x) * of.y;
      const float shift = BIAS ? float(bias[i * at.bias.step]) : 0;
      y[i * at.y.step] = T(normal * float(weight[i * at.weight.step]) + shift);
    }
  }
}

INSTANTIATE(layer_norm)

struct LayerNormGradientShape {
  Shape shape;
  Rows x;
  Rows g;
  Rows dx;
  Vector weight;
  Vector unused;
  float eps;
  float inverse_width;
};

// With h = g w: dx = r (h - mean(h) - n mean(h n)).
template <typename T>
KERNEL(512) layer_norm_gradient(device const T* x [[buffer(0)]],
                                device const T* g [[buffer(1)]],
                                device const T* weight [[buffer(2)]],
                                device T* dx [[buffer(3)]],
                                device float2* kept [[buffer(4), function_constant(KEEP)]],
                                constant LayerNormGradientShape& at [[buffer(5)]],
                                PLACES) {
  threadgroup float shared[128];
  const Team team = TEAM(SIMDGROUPS);
  if (team.row >= at.shape.rows) return;
  const uint width = at.shape.width;
  x += row_start(at.x, at.shape, team.row);
  g += row_start(at.g, at.shape, team.row);
  dx += row_start(at.dx, at.shape, team.row);
  weight += at.weight.start;
  const float2 of = statistics(x, at.x.step, width, at.eps, at.inverse_width, team, simdgroup, lane, shared);
  if (KEEP && team.first == 0) kept[team.row] = of;

  float all = 0, along = 0;
  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 h = load4(g + i) * load4(weight + i);
      all += sum4(h);
      along += dot(h, (load4(x + i) - of.x) * of.y);
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float h = float(g[i * at.g.step]) * float(weight[i * at.weight.step]);
      all += h;
      along += h * (float(x[i * at.x.step]) - of.x) * of.y;
    }
  }
  all = reduce<Add>(all, SIMDGROUPS, simdgroup, lane, shared + 64) * at.inverse_width;
  along = reduce<Add>(along, SIMDGROUPS, simdgroup, lane, shared + 96) * at.inverse_width;

  if (BY_FOURS) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) {
      const float4 normal = (load4(x + i) - of.x) * of.y, h = load4(g + i) * load4(weight + i);
      store4(dx + i, of.y * (h - all - normal * along));
    }
  } else {
    for (uint i = team.first; i < width; i += team.size) {
      const float normal = (float(x[i * at.x.step]) - of.x) * of.y;
      const float h = float(g[i * at.g.step]) * float(weight[i * at.weight.step]);
      dx[i * at.dx.step] = T(of.y * (h - all - normal * along));
    }
  }
}

INSTANTIATE(layer_norm_gradient)

struct LayerNormWeightShape {
  Shape shape;
  Rows x;
  Rows g;
};

// dw = sum over the rows of g n, and db = sum of g. A lane for each column, a simdgroup for each of some rows.
template <typename T>
KERNEL(512) layer_norm_weight_gradient(device const T* x [[buffer(0), function_constant(WEIGHT)]],
                                       device const T* g [[buffer(1)]],
                                       device const float2* kept [[buffer(2), function_constant(WEIGHT)]],
                                       device T* dw [[buffer(3), function_constant(WEIGHT)]],
                                       device T* db [[buffer(4), function_constant(BIAS)]],
                                       constant LayerNormWeightShape& at [[buffer(5)]],
                                       PLACES) {
  threadgroup float shared[2 * 16 * 32];
  const uint column = group * 32 + lane;
  float along = 0, all = 0;
  if (column < at.shape.width) {
    for (uint row = simdgroup; row < at.shape.rows; row += all_simdgroups) {
      const float slope = float(g[row_start(at.g, at.shape, row) + column * at.g.step]);
      all += slope;
      if (WEIGHT) {
        const float v = float(x[row_start(at.x, at.shape, row) + column * at.x.step]);
        along += slope * (v - kept[row].x) * kept[row].y;
      }
    }
  }
  if (WEIGHT) {
    along = sum_of_column(along, all_simdgroups, simdgroup, lane, shared);
    if (simdgroup == 0 && column < at.shape.width) dw[column] = T(along);
  }
  if (BIAS) {
    all = sum_of_column(all, all_simdgroups, simdgroup, lane, shared + 16 * 32);
    if (simdgroup == 0 && column < at.shape.width) db[column] = T(all);
  }
}

INSTANTIATE(layer_norm_weight_gradient)
