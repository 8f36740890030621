// The update rules of one parameter p with gradient g; the others are its state. Factors like
// 1 - beta are given, not taken here: in float32 they would lose digits.
#include "common.cuh"

__device__ inline void sgd_rule(real& p, real g, real lr) { p -= lr * g; }

__device__ inline void momentum_rule(real& p, real g, real& v, real lr, real beta) {
  v = beta * v + lr * g;
  p -= v;
}

__device__ inline void nesterov_rule(real& p, real g, real& v, real lr, real beta) {
  v = beta * v + lr * g;
  p -= beta * v + lr * g;
}

__device__ inline void adagrad_rule(real& p, real g, real& sum, real lr, real eps) {
  sum += g * g;
  p -= lr * g / (sqrt(sum) + eps);
}

__device__ inline void rmsprop_rule(real& p, real g, real& mean, real lr, real rho,
                                    real one_minus_rho, real eps) {
  mean = rho * mean + one_minus_rho * (g * g);
  p -= lr * g / (sqrt(mean) + eps);
}

// rate = lr / (1 - beta1^t) and correction = 1 / (1 - beta2^t).
__device__ inline void adam_rule(real& p, real g, real& m, real& v, real rate, real correction,
                                 real beta1, real one_minus_beta1, real beta2,
                                 real one_minus_beta2, real eps) {
  m = beta1 * m + one_minus_beta1 * g;
  v = beta2 * v + one_minus_beta2 * (g * g);
  p -= rate * m / (sqrt(v * correction) + eps);
}
