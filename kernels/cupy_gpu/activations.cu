// Activations forward and backward, bound by memory: each array is moved once, in 16-byte pieces
// where the elements stand alone. One thread reads and writes an element, so an output may be an
// input.
#include "activations.cuh"
#include "columns.cuh"

// y = act(z); slopes (units,) counts for SLOPES, a pair in its place for SCALED_ELU, slope for the
// others.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_forward(int activation_id, const real* z, const real* slopes, real* y, real slope, long long n,
                   int units) {
  with_activation(activation_id, [&](auto constant) {
    constexpr int ACTIVATION = decltype(constant)::value;
    for_each_piece(n, aligned(z, y), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> piece = load<N>(z + i);
      int unit = ACTIVATION == SLOPES ? i % units : 0;
      for (int k = 0; k < N; ++k) {
        piece.at[k] = activate<ACTIVATION>(piece.at[k], parameter<ACTIVATION>(slopes, slope, unit));
        if (++unit == units) unit = 0;
      }
      store(y + i, piece);
    });
  });
}

// dz = dy act'(z).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_backward(int activation_id, const real* dy, const real* saved, const real* slopes, real* dz,
                    real slope, long long n, int units) {
  with_activation(activation_id, [&](auto constant) {
    constexpr int ACTIVATION = decltype(constant)::value;
    for_each_piece(n, aligned(dy, saved, dz), [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> piece = load<N>(dy + i);
      const Piece<N> from = load<N>(saved + i);
      int unit = ACTIVATION == SLOPES ? i % units : 0;
      for (int k = 0; k < N; ++k) {
        const auto alpha = parameter<ACTIVATION>(slopes, slope, unit);
        piece.at[k] = differentiate<ACTIVATION>(piece.at[k], from.at[k], alpha);
        if (++unit == units) unit = 0;
      }
      store(dz + i, piece);
    });
  });
}

// sums[k] = the rows that block row k has seen, added up.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
column_sums(const real* x, real* sums, int rows, int units) {
  __shared__ real partial[1][THREADS];
  real* const outputs[] = {sums};
  sum_over_rows(
      rows, units, outputs, partial, [&](size_t i) { return Element{x[i], 0}; },
      [&](Element element, size_t, int, auto& totals) { totals[0] += element.gradient; });
}

// dz = dy act'(z) and, in the same pass, its sums over the batch.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
activation_backward_sums(int activation_id, const real* dy, const real* saved,
                         const real* __restrict__ slopes, real* dz, real* sums, real slope, int rows,
                         int units) {
  __shared__ real partial[1][THREADS];
  real* const outputs[] = {sums};
  with_activation(activation_id, [&](auto constant) {
    constexpr int ACTIVATION = decltype(constant)::value;
    sum_over_rows(
        rows, units, outputs, partial, [&](size_t i) { return Element{dy[i], saved[i]}; },
        [&](Element element, size_t i, int unit, auto& totals) {
          const auto alpha = parameter<ACTIVATION>(slopes, slope, unit);
          totals[0] += dz[i] = differentiate<ACTIVATION>(element.gradient, element.saved, alpha);
        });
  });
}

// The same for prelu, with the sums that are the gradient of its slopes: dy min(0, z).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
prelu_backward_sums(const real* dy, const real* z, const real* __restrict__ slopes, real* dz,
                    real* dz_sums, real* slope_sums, int rows, int units) {
  __shared__ real partial[2][THREADS];
  real* const outputs[] = {dz_sums, slope_sums};
  sum_over_rows(
      rows, units, outputs, partial, [&](size_t i) { return Element{dy[i], z[i]}; },
      [&](Element element, size_t i, int unit, auto& totals) {
        const real gradient = element.gradient, input = element.saved;
        totals[0] += dz[i] = differentiate<SLOPES>(gradient, input, slopes[unit]);
        totals[1] += gradient * (input >= 0 ? real(0) : input);  // NaN stays NaN
      });
}
