// The epilogue of the dense layer: bias and activation in one pass over the matrix product.
#include "activations.cuh"

// y = act(y + bias) in place; y is (batch, units) with n elements in all.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
bias_activation(int way, real* y, const real* __restrict__ bias, const real* __restrict__ slopes,
                real slope, long long n, int units) {
  with_way(way, [&](auto constant) {
    constexpr int WAY = decltype(constant)::value;
    for_each_piece(n, aligned(y), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> piece = load<N>(y + i);
      int unit = i % units;
      for (int k = 0; k < N; ++k) {
        const real alpha = WAY == SLOPES ? slopes[unit] : slope;
        piece.at[k] = activate<WAY>(piece.at[k] + bias[unit], alpha);
        if (++unit == units) unit = 0;
      }
      store(y + i, piece);
    });
  });
}
