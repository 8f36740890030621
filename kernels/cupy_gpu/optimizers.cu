// Update rules in one pass over memory: parameter, gradient and state move once, in 16-byte pieces.
#include "rules.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
update(int rule, real* __restrict__ param, const real* __restrict__ grad, real* __restrict__ first,
       real* __restrict__ second, real* __restrict__ third, long long n, real c0, real c1, real c2,
       real c3, real c4, real c5, real c6, real c7) {
  const real scalars[MOST_SCALARS] = {c0, c1, c2, c3, c4, c5, c6, c7};
  real* const states[MOST_STATES] = {first, second, third};
  with_rule(rule, [&](auto chosen) {
    using Chosen = decltype(chosen);
    constexpr int STATES = Chosen::STATES;
    for_each_piece(n, aligned(param, grad, first, second, third), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> p = load<N>(param + i), s[STATES + 1];  // one more: no array is empty
      const Piece<N> g = load<N>(grad + i);
#pragma unroll
      for (int k = 0; k < STATES; ++k) s[k] = load<N>(states[k] + i);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        real state[STATES + 1];
#pragma unroll
        for (int k = 0; k < STATES; ++k) state[k] = s[k].at[j];
        Chosen::apply(p.at[j], g.at[j], state, scalars);
#pragma unroll
        for (int k = 0; k < STATES; ++k) s[k].at[j] = state[k];
      }
      store(param + i, p);
#pragma unroll
      for (int k = 0; k < STATES; ++k) store(states[k] + i, s[k]);
    });
  });
}
