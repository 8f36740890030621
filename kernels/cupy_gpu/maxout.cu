// Maxout: the pieces of a row lie behind each other, `units` elements each; a thread takes a unit.
#include "common.cuh"

// The first of the largest pieces of a unit, or the first that is NaN.
__device__ inline int winner_of(const real* pieces, int count, int units) {
  int winner = 0;
  for (int k = 1; k < count; ++k) {
    const real top = pieces[(long long)winner * units], piece = pieces[(long long)k * units];
    if (piece > top || (piece != piece && top == top)) winner = k;
  }
  return winner;
}

// y = the largest of each unit's pieces z.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
largest_piece(const real* z, real* y, long long n, int pieces, int units) {
  for (long long i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    const real* of_unit = z + i / units * pieces * units + i % units;
    y[i] = of_unit[(long long)winner_of(of_unit, pieces, units) * units];
  }
}

// dz = dy for the piece that won, else 0.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
winning_piece(const real* dy, const real* z, real* dz, long long n, int pieces, int units) {
  for (long long i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    const long long place = i / units * pieces * units + i % units;
    const int winner = winner_of(z + place, pieces, units);
    for (int k = 0; k < pieces; ++k)
      dz[place + (long long)k * units] = k == winner ? dy[i] : real(0);
  }
}
