// Sums over the rows of a matrix, a column a thread of several.
#include "common.cuh"

constexpr int AHEAD = 4;  // rows

// What a thread reads of one element.
struct Element {
  real gradient, saved;
};

// Sums over the rows of a matrix, without atomics and so the same at every run. Blocks of (columns,
// rows), powers of two, stride over the matrix; block row k leaves its sums in sums[k][column].
// add(element, place, unit, totals) adds to COUNT totals what read(place) found; `partial` is shared
// memory. What is written may be what is read, in the same place: AHEAD rows are read before one is
// written, for a compiler that does not know could not.
template <int COUNT, class Read, class Add>
__device__ void sum_over_rows(int rows, int units, real* const (&sums)[COUNT],
                              real (&partial)[COUNT][THREADS], Read read, Add add) {
  const int x = threadIdx.x, y = threadIdx.y, across = blockDim.x, down = blockDim.y;
  const int thread = y * across + x, stride = gridDim.y * down;
  for (int left = blockIdx.x * across; left < units; left += gridDim.x * across) {
    const int unit = left + x;
    real totals[COUNT] = {};
    if (unit < units)
      for (int row = blockIdx.y * down + y; row < rows; row += AHEAD * stride) {
        Element elements[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k)
          if (row + k * stride < rows) elements[k] = read((size_t)(row + k * stride) * units + unit);
#pragma unroll
        for (int k = 0; k < AHEAD; ++k)
          if (row + k * stride < rows)
            add(elements[k], (size_t)(row + k * stride) * units + unit, unit, totals);
      }
    for (int k = 0; k < COUNT; ++k) partial[k][thread] = totals[k];
    for (int half = down / 2; half > 0; half /= 2) {
      __syncthreads();
      if (y < half)
        for (int k = 0; k < COUNT; ++k) partial[k][thread] += partial[k][thread + half * across];
    }
    if (y == 0 && unit < units)
      for (int k = 0; k < COUNT; ++k)
        sums[k][(size_t)blockIdx.y * units + unit] = partial[k][thread];
    __syncthreads();  // before the next tile overwrites what is still being read
  }
}
