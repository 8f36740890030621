// Update rules in one pass over memory: parameter, gradient and state move once, in 16-byte pieces.
#include "rules.cuh"

// Calls rule(param, grad, first, second) on every element; writes back param and STATES states.
template <int STATES, class Rule>
__device__ void update(real* param, const real* grad, real* first, real* second, long long n,
                       Rule rule) {
  for_each_piece(n, aligned(param, grad, first, second), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> p = load<N>(param + i), s = {}, t = {};
    const Piece<N> g = load<N>(grad + i);
    if (STATES > 0) s = load<N>(first + i);
    if (STATES > 1) t = load<N>(second + i);
    for (int k = 0; k < N; ++k) rule(p.at[k], g.at[k], s.at[k], t.at[k]);
    store(param + i, p);
    if (STATES > 0) store(first + i, s);
    if (STATES > 1) store(second + i, t);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
sgd(real* __restrict__ param, const real* __restrict__ grad, long long n, real lr) {
  update<0>(param, grad, nullptr, nullptr, n,
            [&](real& p, real g, real&, real&) { sgd_rule(p, g, lr); });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
momentum(real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ velocity,
         long long n, real lr, real beta) {
  update<1>(param, grad, velocity, nullptr, n, [&](real& p, real g, real& v, real&) {
    momentum_rule(p, g, v, lr, beta);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
nesterov(real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ velocity,
         long long n, real lr, real beta) {
  update<1>(param, grad, velocity, nullptr, n, [&](real& p, real g, real& v, real&) {
    nesterov_rule(p, g, v, lr, beta);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
adagrad(real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ accumulator,
        long long n, real lr, real eps) {
  update<1>(param, grad, accumulator, nullptr, n, [&](real& p, real g, real& sum, real&) {
    adagrad_rule(p, g, sum, lr, eps);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
rmsprop(real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ mean_square,
        long long n, real lr, real rho, real one_minus_rho, real eps) {
  update<1>(param, grad, mean_square, nullptr, n, [&](real& p, real g, real& mean, real&) {
    rmsprop_rule(p, g, mean, lr, rho, one_minus_rho, eps);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
adam(real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ mean,
     real* __restrict__ variance, long long n, real rate, real correction, real beta1,
     real one_minus_beta1, real beta2, real one_minus_beta2, real eps) {
  update<2>(param, grad, mean, variance, n, [&](real& p, real g, real& m, real& v) {
    adam_rule(p, g, m, v, rate, correction, beta1, one_minus_beta1, beta2, one_minus_beta2, eps);
  });
}
