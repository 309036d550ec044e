// What the kernels of products share, the one by tiles and the one for few rows: where operands are, and what becomes
// of a sum before it is written.
//
// C = act(A · B + M · N + bias) + added, for up to three dimensions of products. M · N is a second product of small
// inner dimension, whose left operand is in float: the low-rank part of LoRA.

constant bool A_ALONG_LINES [[function_constant(0)]];  // see `Reading`
constant bool A_FOURS [[function_constant(1)]];
constant bool A_FLOAT [[function_constant(2)]];        // A is in float, whatever T is
constant bool B_ALONG_LINES [[function_constant(3)]];
constant bool B_FOURS [[function_constant(4)]];
constant bool B_FLOAT [[function_constant(5)]];
constant bool SPLIT [[function_constant(6)]];          // the inner dimension is two
constant bool BIAS [[function_constant(7)]];
constant bool KEEP [[function_constant(8)]];           // writes what the activation is applied to as well
constant bool MORE [[function_constant(9)]];           // M · N
constant bool ADD [[function_constant(10)]];           // added, row-major as C is
constant ushort ACTIVATION [[function_constant(16)]];  // none, relu, gelu, silu
constant ushort FEW [[function_constant(17)]];         // the rows, if they are few

struct Product {
  Operand a;
  Operand b;
  Operand m;
  Operand n;
  ulong c_start;
  ulong c_batch[3];
  ulong c_row;
  ulong bias_start;
  ulong bias_step;
  ulong added_start;
  uint rows;
  uint columns;
  uint inner;
  uint split;    // the inner one of two inner dimensions
  uint more;     // the inner dimension of M · N
  uint dims[2];  // the middle and the innermost dimension of products
  uint gap;
};

// Where the operands of one product begin.
inline ulong start_of(constant Operand& operand, constant Product& at, uint product) {
  const uint inner = product % at.dims[1], rest = product / at.dims[1];
  const uint middle = rest % at.dims[0], outer = rest / at.dims[0];
  return operand.start + outer * operand.batch[0] + middle * operand.batch[1] + inner * operand.batch[2];
}

inline ulong start_of_result(constant Product& at, uint product) {
  const uint inner = product % at.dims[1], rest = product / at.dims[1];
  const uint middle = rest % at.dims[0], outer = rest / at.dims[0];
  return at.c_start + outer * at.c_batch[0] + middle * at.c_batch[1] + inner * at.c_batch[2];
}

// x / (1 + exp(-t)). At -inf that would be inf / inf; the limit is 0. A NaN stays one.
inline float gated(float x, float t) { return x == -INFINITY ? 0 : x / (1 + exp(-t)); }

inline float activated(float x) {
  switch (ACTIVATION) {
    case 1: return x < 0 ? 0 : x;
    // x (1 + tanh(t / 2)) / 2
    case 2: return gated(x, 1.5957691216057308f * x * (1 + 0.044715f * x * x));
    case 3: return gated(x, x);
    default: return x;
  }
}

// Writes one element of the result from its sum.
template <typename T>
inline void finish(device T* c, device T* z, device const T* bias, device const T* added, constant Product& at,
                   ulong place, uint column, float sum) {
  if (BIAS) sum += float(bias[at.bias_start + column * at.bias_step]);
  if (KEEP) z[place] = T(sum);
  sum = activated(sum);
  if (ADD) sum += float(added[at.added_start + place]);
  c[place] = T(sum);
}

