// Dropout: four neighbouring elements share a block of random words, one thread's, which takes some
// 60 integer operations; each element is read and written once, so y may be x.
#include "common.cuh"
#include "dropout.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
dropout(const real* x, real* y, long long n, unsigned seed_low, unsigned seed_high, unsigned stream,
        unsigned step, unsigned threshold, real scale) {
  const Dropout kept = {{seed_low, seed_high, stream}, step, threshold, scale};
  const bool wide = aligned(x, y);
  const long long stride = (long long)gridDim.x * THREADS;
  for (long long b = (long long)blockIdx.x * THREADS + threadIdx.x; 4 * b < n; b += stride) {
    const Piece<4> factor = kept.factors(b);
    if (wide && 4 * b + 4 <= n) {
      Piece<4> piece = load<4>(x + 4 * b);
#pragma unroll
      for (int k = 0; k < 4; ++k) piece.at[k] *= factor.at[k];
      store<4>(y + 4 * b, piece);
    } else {
      for (int k = 0; k < 4 && 4 * b + k < n; ++k) y[4 * b + k] = x[4 * b + k] * factor.at[k];
    }
  }
}
