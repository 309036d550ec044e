// The gradient before an activation: u = g · act'(z). For relu the result y stands for z.
//
// A thread has four elements of a row, or up to four.

constant bool BY_FOURS [[function_constant(0)]];       // rows begin and end at multiples of four neighbours
constant ushort ACTIVATION [[function_constant(16)]];  // relu, gelu, silu

struct SlopeShape {
  Shape shape;
  Rows z;
  Rows g;
  Rows u;
};

inline float before(float g, float x) {
  if (ACTIVATION == 1) return x > 0 ? g : 0;
  return g * slope_of(x, ACTIVATION == 2 ? tanh_gate(x) : silu_gate(x));
}

template <typename T>
KERNEL(256) before_activation(device const T* z [[buffer(0)]],
                              device const T* g [[buffer(1)]],
                              device T* u [[buffer(2)]],
                              constant SlopeShape& at [[buffer(3)]],
                              uint2 place [[thread_position_in_grid]]) {
  const uint first = 4 * place.x, row = place.y;
  z += row_start(at.z, at.shape, row);
  g += row_start(at.g, at.shape, row);
  u += row_start(at.u, at.shape, row);
  if (BY_FOURS) {
    if (first >= at.shape.width) return;
    const float4 from = load4(z + first), slopes = load4(g + first);
    store4(u + first, float4(before(slopes.x, from.x), before(slopes.y, from.y), before(slopes.z, from.z),
                             before(slopes.w, from.w)));
  } else {
    for (uint i = first; i < min(first + 4, at.shape.width); i++) {
      u[i * at.u.step] = T(before(float(g[i * at.g.step]), float(z[i * at.z.step])));
    }
  }
}

INSTANTIATE(before_activation)
