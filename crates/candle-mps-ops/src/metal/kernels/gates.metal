// Functions that let a share of x pass, f(x) = x share(x), for gated units and behind activations.

// The share of x that passes, and its slope by x.
struct Gate {
  float share;
  float slope;
};

inline Gate silu_gate(float x) {
  const float s = 1 / (1 + exp(-x));
  return {s, s * (1 - s)};
}

// (1 + tanh(t / 2)) / 2 is the sigmoid of t.
inline Gate tanh_gate(float x) {
  const float linear = 1.5957691f, cubic = linear * 0.044715f, square = x * x;  // sqrt(8 / pi)
  const float s = 1 / (1 + exp(-x * (linear + cubic * square))), flat = s * (1 - s);
  // Far out it is flat, and infinity times that 0 would be NaN.
  return {s, flat == 0 ? 0 : flat * (linear + 3 * cubic * square)};
}

// By Chebyshev's fit of the complementary error function, which is right to 1.2e-7 of its value.
inline Gate normal_gate(float x) {
  const float z = abs(x) * 0.70710678f, t = 1 / (1 + 0.5f * z);
  float fit = 0.17087277f;
  fit = fit * t - 0.82215223f;
  fit = fit * t + 1.48851587f;
  fit = fit * t - 1.13520398f;
  fit = fit * t + 0.27886807f;
  fit = fit * t - 0.18628806f;
  fit = fit * t + 0.09678418f;
  fit = fit * t + 0.37409196f;
  fit = fit * t + 1.00002368f;
  fit = fit * t - 1.26551223f;
  const float tail = 0.5f * t * exp(fit - z * z);
  return {x > 0 ? 1 - tail : tail, 0.39894228f * exp(-0.5f * x * x)};
}

// f'(x).
inline float slope_of(float x, Gate gate) { return gate.slope == 0 ? gate.share : gate.share + x * gate.slope; }

