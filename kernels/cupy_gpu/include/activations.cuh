// The activation functions and their derivatives, each chosen at compile time.
#include "common.cuh"

// How an activation is computed: the numbers are those of kernels/catalog.py.
enum Activation {
  IDENTITY, RELU, SLOPE, SLOPES, ELU, SELU, SIGMOID, TANH, SILU, GELU, GELU_TANH,
  SOFTPLUS, SOFTSIGN, MISH, CELU, HARD_SIGMOID, HARD_SWISH, THRESHOLDED_RELU, SCALED_ELU
};

constexpr real SELU_LAMBDA = 1.0507009873554804934193349852946;
constexpr real SELU_ALPHA = 1.6732632423543772848170429916717;
constexpr real GELU_SCALE = 1.5957691216057307117597842397375;  // 2 sqrt(2 / pi)
constexpr real GELU_CUBE = 0.044715;

// t = tanh(softplus(z)), and 1 - t without cancellation: with e = exp(-|z|), t is n / (n + r).
struct Gate {
  real t, rest;
};
__device__ inline Gate mish_gate(real z) {
  const real e = exp(-fabs(z)), n = z < 0 ? e * (e + 2) : 1 + 2 * e, r = z < 0 ? 2 : 2 * e * e;
  return {n / (n + r), r / (n + r)};
}

// The parameter of SCALED_ELU: alpha gamma, gamma.
struct Pair {
  real left, right;
};

// That of an activation: a slope of every unit, the pair in their place, or one number.
template <int ACTIVATION> __device__ auto parameter(const real* slopes, real slope, int unit) {
  if constexpr (ACTIVATION == SLOPES) return slopes[unit];
  else if constexpr (ACTIVATION == SCALED_ELU) return Pair{slopes[0], slopes[1]};
  else return slope;
}

// act(z). Comparisons are written so that NaN stays NaN.
template <int ACTIVATION, class Parameter> __device__ real activate(real z, Parameter alpha) {
  if constexpr (ACTIVATION == SCALED_ELU) return z > 0 ? alpha.right * z : alpha.left * expm1(z);
  if constexpr (ACTIVATION == RELU) return z <= 0 ? real(0) : z;
  if constexpr (ACTIVATION == SLOPE || ACTIVATION == SLOPES) return z > 0 ? z : alpha * z;
  if constexpr (ACTIVATION == ELU) return z > 0 ? z : alpha * expm1(z);
  if constexpr (ACTIVATION == SELU) return SELU_LAMBDA * (z > 0 ? z : SELU_ALPHA * expm1(z));
  if constexpr (ACTIVATION == SIGMOID) {
    const real e = exp(-fabs(z));  // never overflows
    return (z >= 0 ? real(1) : e) / (1 + e);
  }
  if constexpr (ACTIVATION == TANH) return tanh(z);
  if constexpr (ACTIVATION == SILU) return z * activate<SIGMOID>(z, alpha);
  if constexpr (ACTIVATION == GELU) return z * normcdf(z);
  if constexpr (ACTIVATION == GELU_TANH)
    return z * activate<SIGMOID>(GELU_SCALE * z * (1 + GELU_CUBE * z * z), alpha);
  if constexpr (ACTIVATION == SOFTPLUS) return (z > 0 ? z : real(0)) + log1p(exp(-fabs(z)));
  if constexpr (ACTIVATION == SOFTSIGN) return z / (1 + fabs(z));
  if constexpr (ACTIVATION == MISH) return z * mish_gate(z).t;
  if constexpr (ACTIVATION == CELU) return z > 0 ? z : alpha * expm1(z / alpha);
  if constexpr (ACTIVATION == HARD_SIGMOID) {
    const real t = z + 3;
    return (t < 0 ? real(0) : t > 6 ? real(6) : t) / 6;
  }
  if constexpr (ACTIVATION == HARD_SWISH) return z * activate<HARD_SIGMOID>(z, alpha);
  if constexpr (ACTIVATION == THRESHOLDED_RELU) return z <= alpha ? real(0) : z;
  return z;
}

// dy act'(z), from the saved output y, or for SLOPE and SLOPES from y or z, whose signs agree.
template <int ACTIVATION, class Parameter>
__device__ real differentiate(real dy, real saved, Parameter alpha) {
  if constexpr (ACTIVATION == SCALED_ELU)
    return saved > 0 ? alpha.right * dy : (saved + alpha.left) * dy;
  if constexpr (ACTIVATION == RELU || ACTIVATION == THRESHOLDED_RELU)
    return saved > 0 ? dy : real(0);
  if constexpr (ACTIVATION == SLOPE || ACTIVATION == SLOPES) return saved > 0 ? dy : alpha * dy;
  if constexpr (ACTIVATION == ELU) return saved > 0 ? dy : (saved + alpha) * dy;
  if constexpr (ACTIVATION == SELU)
    return saved > 0 ? SELU_LAMBDA * dy : (saved + SELU_LAMBDA * SELU_ALPHA) * dy;
  if constexpr (ACTIVATION == SIGMOID) return saved * (1 - saved) * dy;
  if constexpr (ACTIVATION == TANH) return (1 - saved) * (1 + saved) * dy;
  if constexpr (ACTIVATION == SILU) {
    const real gate = activate<SIGMOID>(saved, alpha);
    return (gate + saved * gate * (1 - gate)) * dy;
  }
  if constexpr (ACTIVATION == GELU) {
    const real density = exp(saved * saved / -2) * real(0.39894228040143267794);  // 1 / sqrt(2 pi)
    return (normcdf(saved) + saved * density) * dy;
  }
  if constexpr (ACTIVATION == GELU_TANH) {
    const real z = saved < -25 ? real(-25) : saved > 25 ? real(25) : saved;  // 0 from there on
    const real square = GELU_CUBE * z * z, gate = activate<SIGMOID>(GELU_SCALE * z * (1 + square), 0);
    return (gate + z * gate * (1 - gate) * GELU_SCALE * (1 + 3 * square)) * dy;
  }
  if constexpr (ACTIVATION == SOFTPLUS) return -expm1(-saved) * dy;
  if constexpr (ACTIVATION == SOFTSIGN) return (1 - fabs(saved)) * (1 - fabs(saved)) * dy;
  if constexpr (ACTIVATION == MISH) {
    const Gate gate = mish_gate(saved);
    return (gate.t + saved * gate.rest * (1 + gate.t) * activate<SIGMOID>(saved, alpha)) * dy;
  }
  if constexpr (ACTIVATION == CELU) return saved > 0 ? dy : (saved / alpha + 1) * dy;
  if constexpr (ACTIVATION == HARD_SIGMOID) return saved > 0 && saved < 1 ? dy / 6 : real(0);
  if constexpr (ACTIVATION == HARD_SWISH) {
    const real slope = saved < 3 ? (2 * saved + 3) / 6 : real(1);
    return saved <= -3 ? real(0) : slope * dy;
  }
  return dy;
}

// Calls body(Constant<activation_id>): one branch before the loop instead of one in it. A network has
// no PAIRS.
template <bool PAIRS = true, class Body> __device__ void with_activation(int activation_id, Body body) {
  switch (activation_id) {
    case RELU: return body(Constant<RELU>());
    case SLOPE: return body(Constant<SLOPE>());
    case SLOPES: return body(Constant<SLOPES>());
    case ELU: return body(Constant<ELU>());
    case SELU: return body(Constant<SELU>());
    case SIGMOID: return body(Constant<SIGMOID>());
    case TANH: return body(Constant<TANH>());
    case SILU: return body(Constant<SILU>());
    case GELU: return body(Constant<GELU>());
    case GELU_TANH: return body(Constant<GELU_TANH>());
    case SOFTPLUS: return body(Constant<SOFTPLUS>());
    case SOFTSIGN: return body(Constant<SOFTSIGN>());
    case MISH: return body(Constant<MISH>());
    case CELU: return body(Constant<CELU>());
    case HARD_SIGMOID: return body(Constant<HARD_SIGMOID>());
    case HARD_SWISH: return body(Constant<HARD_SWISH>());
    case THRESHOLDED_RELU: return body(Constant<THRESHOLDED_RELU>());
    case IDENTITY: return body(Constant<IDENTITY>());
    case SCALED_ELU:
      if constexpr (PAIRS) return body(Constant<SCALED_ELU>());
    default: __trap();
  }
}
