// The gradient before an activation: u = g · act'(z). For relu the result y stands for z.
//
// Elementwise: a thread has four neighbours where rows allow that, or one element.

constant bool BY_FOURS [[function_constant(0)]];       // rows begin and end at multiples of four neighbours
constant ushort ACTIVATION [[function_constant(16)]];  // relu, gelu, silu

struct SlopeShape {
  Shape shape;
  Rows z;
  Rows g;
  Rows u;
};

// The derivative of x / (1 + exp(-t)), where t has the derivative `steep`.
inline float slope_of(float x, float t, float steep) {
  const float sigmoid = 1 / (1 + exp(-t));
  // Far out the sigmoid is 0 or 1, and infinity times that 0 would be NaN.
  const float flat = (1 - sigmoid) * sigmoid;
  return flat == 0 ? sigmoid : x * flat * steep + sigmoid;
}

inline float before(float g, float x) {
  if (ACTIVATION == 1) return x > 0 ? g : 0;
  if (ACTIVATION == 3) return g * slope_of(x, x, 1);
  const float linear = 1.5957691216057308f, cubic = linear * 0.044715f, square = x * x;
  return g * slope_of(x, x * (linear + cubic * square), linear + 3 * cubic * square);
}

template <typename T>
kernel void before_activation(device const T* z [[buffer(0)]],
                              device const T* g [[buffer(1)]],
                              device T* u [[buffer(2)]],
                              constant SlopeShape& at [[buffer(3)]],
                              uint2 group [[threadgroup_position_in_grid]],
                              ushort place [[thread_index_in_threadgroup]],
                              uint2 threads [[threads_per_threadgroup]]) {
  const uint column = (group.x * threads.x + place) * (BY_FOURS ? 4 : 1);
  if (column >= at.shape.width) return;
  z += row_start(at.z, at.shape, group.y) + column * at.z.step;
  g += row_start(at.g, at.shape, group.y) + column * at.g.step;
  u += row_start(at.u, at.shape, group.y) + column * at.u.step;
  if (BY_FOURS) {
    const float4 slopes = load4(g), from = load4(z);
    float4 before_it;
    for (ushort i = 0; i < 4; i++) before_it[i] = before(slopes[i], from[i]);
    store4(u, before_it);
  } else {
    *u = T(before(float(*g), float(*z)));
  }
}

INSTANTIATE(before_activation)
