// What becomes of gradients before the update rule, in place.
#include "gradients.cuh"

// g = change(g) for each of the n elements.
template <class Change> __device__ void change_each(real* grad, long long n, Change change) {
  for_each_piece(n, aligned(grad), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> piece = load<N>(grad + i);
#pragma unroll
    for (int k = 0; k < N; ++k) piece.at[k] = change(piece.at[k]);
    store(grad + i, piece);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
add_l2(real* grad, const real* param, real l2, long long n) {
  for_each_piece(n, aligned(grad, param), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> piece = load<N>(grad + i);
    const Piece<N> weights = load<N>(param + i);
#pragma unroll
    for (int k = 0; k < N; ++k) piece.at[k] = penalised(piece.at[k], weights.at[k], l2);
    store(grad + i, piece);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
clip_by_value(real* grad, real limit, long long n) {
  change_each(grad, n, [&](real g) { return clipped(g, limit); });
}

// A factor of 1 writes nothing.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
scale_by(real* grad, const real* factor, long long n) {
  const real by = *factor;
  if (by != 1) change_each(grad, n, [&](real g) { return g * by; });
}
