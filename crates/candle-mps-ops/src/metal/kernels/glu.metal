// Gated units, f(gate) up, and their gradients: f is silu(x) = x / (1 + exp(-x)), or gelu(x) = x cdf(x), with the
// normal distribution or with what a tanh makes of it.

constant bool BY_FOURS [[function_constant(0)]];  // rows begin and end at multiples of four neighbours
constant ushort UNIT [[function_constant(16)]];   // 0: silu, 1: gelu with tanh, 2: gelu

inline Gate gate_of(float x) {
  if (UNIT == 0) return silu_gate(x);
  return UNIT == 1 ? tanh_gate(x) : normal_gate(x);
}

inline float value(float x) { return x * gate_of(x).share; }

inline float slope(float x) { return slope_of(x, gate_of(x)); }

struct GluShape {
  Shape shape;
  Rows gate;
  Rows up;
  Rows y;
};

// A threadgroup for a part of a row; each thread has four elements, or up to four.
template <typename T>
KERNEL(256) glu(device const T* gate [[buffer(0)]],
                device const T* up [[buffer(1)]],
                device T* y [[buffer(2)]],
                constant GluShape& at [[buffer(3)]],
                uint2 place [[thread_position_in_grid]]) {
  const uint first = 4 * place.x, row = place.y;
  gate += row_start(at.gate, at.shape, row);
  up += row_start(at.up, at.shape, row);
  y += row_start(at.y, at.shape, row);
  if (BY_FOURS) {
    if (first >= at.shape.width) return;
    const float4 x = load4(gate + first);
    store4(y + first, float4(value(x.x), value(x.y), value(x.z), value(x.w)) * load4(up + first));
  } else {
    for (uint i = first; i < min(first + 4, at.shape.width); i++) {
      y[i * at.y.step] = T(value(float(gate[i * at.gate.step])) * float(up[i * at.up.step]));
    }
  }
}

INSTANTIATE(glu)

struct GluGradientShape {
  Shape shape;
  Rows gate;
  Rows up;
  Rows g;
  Rows dgate;
  Rows dup;
};

template <typename T>
KERNEL(256) glu_gradient(device const T* gate [[buffer(0)]],
                         device const T* up [[buffer(1)]],
                         device const T* g [[buffer(2)]],
                         device T* dgate [[buffer(3)]],
                         device T* dup [[buffer(4)]],
                         constant GluGradientShape& at [[buffer(5)]],
                         uint2 place [[thread_position_in_grid]]) {
  const uint first = 4 * place.x, row = place.y;
  gate += row_start(at.gate, at.shape, row);
  up += row_start(at.up, at.shape, row);
  g += row_start(at.g, at.shape, row);
  dgate += row_start(at.dgate, at.shape, row);
  dup += row_start(at.dup, at.shape, row);
  if (BY_FOURS) {
    if (first >= at.shape.width) return;
    const float4 x = load4(gate + first), back = load4(g + first);
    store4(dgate + first, back * load4(up + first) * float4(slope(x.x), slope(x.y), slope(x.z), slope(x.w)));
    store4(dup + first, back * float4(value(x.x), value(x.y), value(x.z), value(x.w)));
  } else {
    for (uint i = first; i < min(first + 4, at.shape.width); i++) {
      const float x = float(gate[i * at.gate.step]), back = float(g[i * at.g.step]);
      dgate[i * at.dgate.step] = T(back * float(up[i * at.up.step]) * slope(x));
      dup[i * at.dup.step] = T(back * value(x));
    }
  }
}

INSTANTIATE(glu_gradient)
