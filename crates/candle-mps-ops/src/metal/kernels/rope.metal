// Rotary position embedding and its gradient: each pair (a, b) of a row is turned by the angle of its position, or
// turned back.

constant bool NEIGHBOURS [[function_constant(0)]];  // pairs are neighbours; otherwise elements of the two halves
constant bool BACK [[function_constant(1)]];        // turn back

// Four dimensions of x and y; those of cos and sin are the same, but the last, which is half as long.
struct RopeShape {
  uint dims[4];  // the last: pairs
  ulong x_start, cos_start, sin_start;
  ulong x[4], cos[4], sin[4];
};

// A thread for each pair of a row. The result is row-major.
template <typename T>
KERNEL(256) rope(device const T* x [[buffer(0)]],
                 device const T* cos [[buffer(1)]],
                 device const T* sin [[buffer(2)]],
                 device T* y [[buffer(3)]],
                 constant RopeShape& at [[buffer(4)]],
                 uint2 place [[thread_position_in_grid]]) {
  const uint pairs = at.dims[3], pair = place.x, row = place.y;
  if (pair >= pairs) return;
  const uint inner = row % at.dims[2], rest = row / at.dims[2];
  const uint middle = rest % at.dims[1], outer = rest / at.dims[1];
  x += at.x_start + outer * at.x[0] + middle * at.x[1] + inner * at.x[2];
  cos += at.cos_start + outer * at.cos[0] + middle * at.cos[1] + inner * at.cos[2];
  sin += at.sin_start + outer * at.sin[0] + middle * at.sin[1] + inner * at.sin[2];
  y += ulong(row) * 2 * pairs;

  const uint first = NEIGHBOURS ? 2 * pair : pair, second = NEIGHBOURS ? first + 1 : pair + pairs;
  const float a = float(x[first * at.x[3]]), b = float(x[second * at.x[3]]);
  const float c = float(cos[pair * at.cos[3]]), forth = float(sin[pair * at.sin[3]]);
  const float s = BACK ? -forth : forth;
  y[first] = T(a * c - b * s);
  y[second] = T(a * s + b * c);
}

INSTANTIATE(rope)
