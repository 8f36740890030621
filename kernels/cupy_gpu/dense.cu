// The dense layer: its products by tiles, and the epilogue of products that cuBLAS computes. The
// numbers 32 and 64 in the names are the sides of the tiles: many small ones or fewer large ones.
#include "activations.cuh"
#include "tiles.cuh"

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

// y = act(x W + b) with x (batch, fan_in) and W (fan_in, units).
template <int PER>
__device__ void forward(int way, const real* x, const real* weight, const real* bias,
                        const real* slopes, real* y, real slope, int batch, int fan_in, int units) {
  const Factor<PER, true> left(x, batch, fan_in);
  const Factor<PER, false> right(weight, fan_in, units);
  product<PER>(left, right, batch, units, fan_in, [&](int row, int column, real (&z)[PER][PER]) {
    with_way(way, [&](auto constant) {
      constexpr int WAY = decltype(constant)::value;
#pragma unroll
      for (int j = 0; j < PER; ++j) {
        if (column + j >= units) continue;
        const real shift = bias[column + j], alpha = WAY == SLOPES ? slopes[column + j] : slope;
#pragma unroll
        for (int i = 0; i < PER; ++i) z[i][j] = activate<WAY>(z[i][j] + shift, alpha);
      }
    });
    write(y, batch, units, row, column, z);
  });
}

// dx = dz W^T.
template <int PER>
__device__ void input_gradient(const real* dz, const real* weight, real* dx, int batch, int fan_in,
                               int units) {
  const Factor<PER, true> left(dz, batch, units), right(weight, fan_in, units);
  product<PER>(left, right, batch, fan_in, units, [&](int row, int column, real (&sums)[PER][PER]) {
    write(dx, batch, fan_in, row, column, sums);
  });
}

// dW = x^T dz.
template <int PER>
__device__ void weight_gradient(const real* x, const real* dz, real* dweight, int batch, int fan_in,
                                int units) {
  const Factor<PER, false> left(x, batch, fan_in), right(dz, batch, units);
  product<PER>(left, right, fan_in, units, batch, [&](int row, int column, real (&sums)[PER][PER]) {
    write(dweight, fan_in, units, row, column, sums);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
dense_forward_32(int way, const real* x, const real* weight, const real* bias, const real* slopes,
                 real* y, real slope, int batch, int fan_in, int units) {
  forward<2>(way, x, weight, bias, slopes, y, slope, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
dense_forward_64(int way, const real* x, const real* weight, const real* bias, const real* slopes,
                 real* y, real slope, int batch, int fan_in, int units) {
  forward<4>(way, x, weight, bias, slopes, y, slope, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
input_gradient_32(const real* dz, const real* weight, real* dx, int batch, int fan_in, int units) {
  input_gradient<2>(dz, weight, dx, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
input_gradient_64(const real* dz, const real* weight, real* dx, int batch, int fan_in, int units) {
  input_gradient<4>(dz, weight, dx, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
weight_gradient_32(const real* x, const real* dz, real* dweight, int batch, int fan_in, int units) {
  weight_gradient<2>(x, dz, dweight, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
weight_gradient_64(const real* x, const real* dz, real* dweight, int batch, int fan_in, int units) {
  weight_gradient<4>(x, dz, dweight, batch, fan_in, units);
}
