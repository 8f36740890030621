// Activations forward and backward, bound by memory: each array is moved once, in 16-byte pieces
// where the elements stand alone. One thread reads and writes an element, so an output may be an
// input.
#include "activations.cuh"

// y = act(z); slopes (units,) counts for SLOPES, slope for the other ways.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_forward(int way, const real* z, const real* slopes, real* y, real slope, long long n,
                   int units) {
  with_way(way, [&](auto constant) {
    constexpr int WAY = decltype(constant)::value;
    for_each_piece(n, aligned(z, y), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> piece = load<N>(z + i);
      int unit = WAY == SLOPES ? i % units : 0;
      for (int k = 0; k < N; ++k) {
        piece.at[k] = activate<WAY>(piece.at[k], WAY == SLOPES ? slopes[unit] : slope);
        if (++unit == units) unit = 0;
      }
      store(y + i, piece);
    });
  });
}

// dz = dy act'(z).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_backward(int way, const real* dy, const real* saved, const real* slopes, real* dz,
                    real slope, long long n, int units) {
  with_way(way, [&](auto constant) {
    constexpr int WAY = decltype(constant)::value;
    for_each_piece(n, aligned(dy, saved, dz), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> piece = load<N>(dy + i);
      const Piece<N> from = load<N>(saved + i);
      int unit = WAY == SLOPES ? i % units : 0;
      for (int k = 0; k < N; ++k) {
        const real alpha = WAY == SLOPES ? slopes[unit] : slope;
        piece.at[k] = differentiate<WAY>(piece.at[k], from.at[k], alpha);
        if (++unit == units) unit = 0;
      }
      store(dz + i, piece);
    });
  });
}

// Sums over the rows of a matrix, without atomics and so the same at every run. Blocks of (columns,
// rows), powers of two, stride over the matrix; block row k leaves its sums in sums[k][column].
// element(row, unit, totals) adds what it finds there to COUNT totals; `partial` is shared memory.
template <int COUNT, class Element>
__device__ void sum_over_rows(int rows, int units, real* const (&sums)[COUNT],
                              real (&partial)[COUNT][THREADS], Element element) {
  const int x = threadIdx.x, y = threadIdx.y, across = blockDim.x, down = blockDim.y;
  const int thread = y * across + x, stride = gridDim.y * down;
  for (int left = blockIdx.x * across; left < units; left += gridDim.x * across) {
    const int unit = left + x;
    real totals[COUNT] = {};
    if (unit < units)
      for (int row = blockIdx.y * down + y; row < rows; row += stride) element(row, unit, totals);
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

// sums[k] = the rows that block row k has seen, added up.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
column_sums(const real* x, real* sums, int rows, int units) {
  __shared__ real partial[1][THREADS];
  real* const outputs[] = {sums};
  sum_over_rows(rows, units, outputs, partial, [&](int row, int unit, real (&totals)[1]) {
    totals[0] += x[(size_t)row * units + unit];
  });
}

// dz = dy act'(z) and, in the same pass, its sums over the batch.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_backward_sums(int way, const real* dy, const real* saved, const real* slopes, real* dz,
                         real* sums, real slope, int rows, int units) {
  __shared__ real partial[1][THREADS];
  real* const outputs[] = {sums};
  with_way(way, [&](auto constant) {
    constexpr int WAY = decltype(constant)::value;
    sum_over_rows(rows, units, outputs, partial, [&](int row, int unit, real (&totals)[1]) {
      const size_t i = (size_t)row * units + unit;
      const real alpha = WAY == SLOPES ? slopes[unit] : slope;
      totals[0] += dz[i] = differentiate<WAY>(dy[i], saved[i], alpha);
    });
  });
}

// The same for prelu, with the sums that are the gradient of its slopes: dy min(0, z).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
prelu_backward_sums(const real* dy, const real* z, const real* slopes, real* dz, real* dz_sums,
                    real* slope_sums, int rows, int units) {
  __shared__ real partial[2][THREADS];
  real* const outputs[] = {dz_sums, slope_sums};
  sum_over_rows(rows, units, outputs, partial, [&](int row, int unit, real (&totals)[2]) {
    const size_t i = (size_t)row * units + unit;
    const real gradient = dy[i], input = z[i];
    totals[0] += dz[i] = differentiate<SLOPES>(gradient, input, slopes[unit]);
    totals[1] += gradient * (input >= 0 ? real(0) : input);  // NaN stays NaN
  });
}
