// The dense layer: its products by tiles, and the epilogue of products that cuBLAS computes. The
// numbers 32 and 64 in the names are the sides of the tiles: many small ones or fewer large ones.
#include "activations.cuh"
#include "tiles.cuh"

// y = act(sum of the parts + bias), or the sum alone where there is no bias: what remains to do of a
// product by cuBLAS, whose one part is y itself, or of one that was split. y is (batch, units) with
// n elements in all.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
finish_product(int activation_id, const real* parts, int count, const real* bias, const real* slopes, real* y,
               real slope, long long n, int units) {
  const bool wide = aligned(parts, y) && (count == 1 || n % WIDTH == 0);
  for_each_piece(n, wide, [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> piece = load<N>(parts + i);
#pragma unroll 4
    for (int part = 1; part < count; ++part) {
      const Piece<N> other = load<N>(parts + part * n + i);
      for (int k = 0; k < N; ++k) piece.at[k] += other.at[k];
    }
    if (bias)
      with_activation(activation_id, [&](auto constant) {
        constexpr int ACTIVATION = decltype(constant)::value;
        int unit = i % units;
        for (int k = 0; k < N; ++k) {
          const auto alpha = parameter<ACTIVATION>(slopes, slope, unit);
          piece.at[k] = activate<ACTIVATION>(piece.at[k] + bias[unit], alpha);
          if (++unit == units) unit = 0;
        }
      });
    store(y + i, piece);
  });
}

// Where the block's part of a product of this size begins.
__device__ inline real* part(real* parts, int rows, int columns) {
  return parts + (size_t)blockIdx.z * rows * columns;
}

// y = act(x W + b) with x (batch, fan_in) and W (fan_in, units); of a part of the depth x W alone.
template <int SPAN>
__device__ void forward(int activation_id, const real* x, const real* weight, const real* bias,
                        const real* slopes, real* y, real slope, int batch, int fan_in, int units) {
  const Factor<SPAN, true> left(x, batch, fan_in);
  const Factor<SPAN, false> right(weight, fan_in, units);
  product<SPAN>(left, right, batch, units, fan_in, [&](int row, int column, Piece<SIDE>& z) {
    if (gridDim.z == 1)
      with_activation(activation_id, [&](auto constant) {
        constexpr int ACTIVATION = decltype(constant)::value;
#pragma unroll
        for (int j = 0; j < SIDE; ++j) {
          if (column + j >= units) continue;
          const auto alpha = parameter<ACTIVATION>(slopes, slope, column + j);
          z.at[j] = activate<ACTIVATION>(bias ? z.at[j] + bias[column + j] : z.at[j], alpha);
        }
      });
    write(part(y, batch, units), batch, units, row, column, z);
  });
}

// dx = dz W^T.
template <int SPAN>
__device__ void input_gradient(const real* dz, const real* weight, real* dx, int batch, int fan_in,
                               int units) {
  const Factor<SPAN, true> left(dz, batch, units), right(weight, fan_in, units);
  product<SPAN>(left, right, batch, fan_in, units, [&](int row, int column, Piece<SIDE>& sums) {
    write(part(dx, batch, fan_in), batch, fan_in, row, column, sums);
  });
}

// dW = x^T dz.
template <int SPAN>
__device__ void weight_gradient(const real* x, const real* dz, real* dweight, int batch, int fan_in,
                                int units) {
  const Factor<SPAN, false> left(x, batch, fan_in), right(dz, batch, units);
  product<SPAN>(left, right, fan_in, units, batch, [&](int row, int column, Piece<SIDE>& sums) {
    write(part(dweight, fan_in, units), fan_in, units, row, column, sums);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
dense_forward_32(int activation_id, const real* x, const real* weight, const real* bias, const real* slopes,
                 real* y, real slope, int batch, int fan_in, int units) {
  forward<32>(activation_id, x, weight, bias, slopes, y, slope, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
dense_forward_64(int activation_id, const real* x, const real* weight, const real* bias, const real* slopes,
                 real* y, real slope, int batch, int fan_in, int units) {
  forward<64>(activation_id, x, weight, bias, slopes, y, slope, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
input_gradient_32(const real* dz, const real* weight, real* dx, int batch, int fan_in, int units) {
  input_gradient<32>(dz, weight, dx, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
input_gradient_64(const real* dz, const real* weight, real* dx, int batch, int fan_in, int units) {
  input_gradient<64>(dz, weight, dx, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
weight_gradient_32(const real* x, const real* dz, real* dweight, int batch, int fan_in, int units) {
  weight_gradient<32>(x, dz, dweight, batch, fan_in, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
weight_gradient_64(const real* x, const real* dz, real* dweight, int batch, int fan_in, int units) {
  weight_gradient<64>(x, dz, dweight, batch, fan_in, units);
}
