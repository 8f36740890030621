// Losses of one element and their gradients, each chosen at compile time.
#include "common.cuh"

// The numbers are those of kernels/catalog.py, and of the faults those of kernels/loss_arguments.py.
enum ElementLoss { SQUARED, ABSOLUTE, HUBER, LOGISTIC, BERNOULLI, POISSON, GAUSSIAN };
enum ElementFault { VARIANCE_FAULT = -2, FRACTION_FAULT, NONE };

struct Term {
  real loss, gradient, of_variance;
};

__device__ inline real at_least(real x, real least) { return x < least ? least : x; }

// The loss of the prediction x by its target t and, of GAUSSIAN, of the variance; a is its number.
// Comparisons are written so that NaN stays NaN.
template <int LOSS> __device__ Term term(real x, real t, real variance, real a) {
  if constexpr (LOSS == SQUARED) return {(x - t) * (x - t), 2 * (x - t), 0};
  if constexpr (LOSS == ABSOLUTE) {
    const real error = x - t;
    return {fabs(error), error > 0 ? real(1) : error < 0 ? real(-1) : error, 0};
  }
  if constexpr (LOSS == HUBER) {
    const real error = x - t, size = fabs(error);
    const real loss = size <= a ? error * error / 2 : a * (size - a / 2);
    return {loss, error > a ? a : error < -a ? -a : error, 0};
  }
  if constexpr (LOSS == LOGISTIC) {
    const real e = exp(-fabs(x));  // never overflows
    return {(x < 0 ? real(0) : x) - x * t + log1p(e), (x < 0 ? e : real(1)) / (1 + e) - t, 0};
  }
  if constexpr (LOSS == BERNOULLI) {
    const real log_p = at_least(log(x), -100), log_rest = at_least(log1p(-x), -100);
    const real spread = at_least(x * (1 - x), real(1e-12));
    return {-(t * log_p + (1 - t) * log_rest), (x - t) / spread, 0};
  }
  if constexpr (LOSS == POISSON) {
    const real rate = exp(x);
    return {rate - t * x, rate - t, 0};
  }
  if constexpr (LOSS == GAUSSIAN) {
    const real error = x - t, s = at_least(variance, a), gradient = error / s;
    const real share = error * gradient;
    return {(log(s) + share) / 2, gradient, (1 - share) / (2 * s)};
  }
}

// What is wrong with a target or a variance.
template <int LOSS> __device__ ElementFault fault_of(real t, real variance) {
  if constexpr (LOSS == LOGISTIC || LOSS == BERNOULLI)
    return t >= 0 && t <= 1 ? NONE : FRACTION_FAULT;
  if constexpr (LOSS == GAUSSIAN) return variance < 0 ? VARIANCE_FAULT : NONE;
  return NONE;
}

// Calls body(Constant<loss_id>): one branch before the loop instead of one in it.
template <class Body> __device__ void with_element_loss(int loss_id, Body body) {
  switch (loss_id) {
    case SQUARED: return body(Constant<SQUARED>());
    case ABSOLUTE: return body(Constant<ABSOLUTE>());
    case HUBER: return body(Constant<HUBER>());
    case LOGISTIC: return body(Constant<LOGISTIC>());
    case BERNOULLI: return body(Constant<BERNOULLI>());
    case POISSON: return body(Constant<POISSON>());
    case GAUSSIAN: return body(Constant<GAUSSIAN>());
    default: __trap();
  }
}
