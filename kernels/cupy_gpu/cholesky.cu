// A symmetric positive definite system of some hundred equations, A d = -g with A = H + shift I, by
// Cholesky's factors: by columns of SIDE at once, from left to right, of a matrix that has -g as
// one row more. What makes the rows of L from those of A makes y = -L^-1 g of this one; then
// L^T d = y is solved. (Nocedal and Wright, Numerical Optimization, 2006, section 3.4; by blocks:
// Golub and Van Loan, Matrix Computations, 4th ed., 2013, section 4.2.) `system` is (n + 1, n), of
// which L and y take the lower triangle and the last row.
#include "common.cuh"

constexpr int SIDE = 32;

// system = the rows of H + shift I and -g; no pivot has failed yet.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
damped_system(const real* hessian, const real* g, real* system, int* failed, real shift, int n) {
  const long long count = ((long long)n + 1) * n, stride = (long long)gridDim.x * THREADS;
  if (blockIdx.x == 0 && threadIdx.x == 0) *failed = 0;
  for (long long k = (long long)blockIdx.x * THREADS + threadIdx.x; k < count; k += stride) {
    const int row = k / n, column = k % n;
    if (row == n) system[k] = -g[column];
    else system[k] = row == column ? hessian[k] + shift : hessian[k];
  }
}

// The factor of the SIDE columns and rows from `first` on, in place; one block.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
cholesky_corner(real* system, int* failed, int first, int n) {
  __shared__ real corner[SIDE][SIDE + 1];
  const int size = n - first < SIDE ? n - first : SIDE;
  for (int k = threadIdx.x; k < size * size; k += THREADS)
    corner[k / size][k % size] = system[(size_t)(first + k / size) * n + first + k % size];
  __syncthreads();
  for (int k = 0; k < size; ++k) {
    const real pivot = corner[k][k], root = sqrt(pivot);
    __syncthreads();
    if (threadIdx.x == 0) {
      if (!(pivot > 0 && pivot < infinity())) *failed = 1;
      corner[k][k] = root;
    }
    for (int i = k + 1 + threadIdx.x; i < size; i += THREADS) corner[i][k] /= root;
    __syncthreads();
    for (int t = threadIdx.x; t < SIDE * SIDE; t += THREADS) {
      const int i = t / SIDE, j = t % SIDE;
      if (k < j && j <= i && i < size) corner[i][j] -= corner[i][k] * corner[j][k];
    }
    __syncthreads();
  }
  for (int k = threadIdx.x; k < size * size; k += THREADS)
    system[(size_t)(first + k / size) * n + first + k % size] = corner[k / size][k % size];
}

// The rows below the corner: x L^T = a for each, SIDE rows at once. An element is divided by its
// diagonal where it is used, so that nobody waits for it to be written.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
cholesky_panel(real* system, int first, int n) {
  __shared__ real corner[SIDE][SIDE + 1];
  __shared__ real rows[SIDE][SIDE + 1];
  const int size = n - first < SIDE ? n - first : SIDE, down = THREADS / SIDE;
  const int column = threadIdx.x % SIDE, line = threadIdx.x / SIDE;
  for (int k = threadIdx.x; k < size * size; k += THREADS)
    corner[k / size][k % size] = system[(size_t)(first + k / size) * n + first + k % size];
  for (int top = first + size + blockIdx.y * SIDE; top <= n; top += gridDim.y * SIDE) {
    for (int i = line; i < SIDE; i += down)
      rows[i][column] = top + i <= n && column < size
                            ? system[(size_t)(top + i) * n + first + column] : real(0);
    for (int k = 0; k + 1 < size; ++k) {
      __syncthreads();
      for (int i = line; i < SIDE && k < column && column < size; i += down)
        rows[i][column] -= rows[i][k] / corner[k][k] * corner[column][k];
    }
    __syncthreads();  // before the next rows overwrite what is still being read
    for (int i = line; i < SIDE && column < size; i += down)
      if (top + i <= n)
        system[(size_t)(top + i) * n + first + column] = rows[i][column] / corner[column][column];
  }
}

// What is right of the panel, -= its rows' products: the tiles of the lower triangle, and the last
// row. There are further columns, so that the panel has all of SIDE.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
cholesky_rest(real* system, int first, int n) {
  __shared__ real left[SIDE][SIDE + 1];
  __shared__ real right[SIDE][SIDE + 1];
  const int begin = first + SIDE, down = THREADS / SIDE;
  const int column = threadIdx.x % SIDE, line = threadIdx.x / SIDE;
  for (int top = begin + blockIdx.y * SIDE; top <= n; top += gridDim.y * SIDE) {
    for (int side = begin + blockIdx.x * SIDE; side < n && side <= top; side += gridDim.x * SIDE) {
      for (int i = line; i < SIDE; i += down) {
        left[i][column] = top + i <= n ? system[(size_t)(top + i) * n + first + column] : real(0);
        right[i][column] = side + i < n ? system[(size_t)(side + i) * n + first + column] : real(0);
      }
      __syncthreads();
      for (int i = line; i < SIDE; i += down) {
        real sum = 0;
#pragma unroll
        for (int k = 0; k < SIDE; ++k) sum += left[i][k] * right[column][k];
        if (top + i <= n && side + column < n)
          system[(size_t)(top + i) * n + side + column] -= sum;
      }
      __syncthreads();  // before the next tile overwrites what is still being read
    }
  }
}

// L^T d = y, from the last SIDE rows of L to the first; one block. y is overwritten.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
back_substitution(real* system, real* d, int n) {
  __shared__ real corner[SIDE][SIDE + 1];
  __shared__ real found[SIDE];
  real* const y = system + (size_t)n * n;
  for (int first = (n - 1) / SIDE * SIDE; first >= 0; first -= SIDE) {
    const int size = n - first < SIDE ? n - first : SIDE;
    for (int k = threadIdx.x; k < size * size; k += THREADS)
      corner[k / size][k % size] = system[(size_t)(first + k / size) * n + first + k % size];
    if (threadIdx.x < size) found[threadIdx.x] = y[first + threadIdx.x];
    __syncthreads();
    for (int i = size - 1; i >= 0; --i) {
      const real value = found[i] / corner[i][i];
      __syncthreads();
      if (threadIdx.x < i) found[threadIdx.x] -= corner[i][threadIdx.x] * value;
      if (threadIdx.x == i) found[i] = d[first + i] = value;
      __syncthreads();
    }
    for (int j = threadIdx.x; j < first; j += THREADS) {
      real sum = 0;
      for (int i = 0; i < size; ++i) sum += system[(size_t)(first + i) * n + j] * found[i];
      y[j] -= sum;
    }
    __syncthreads();  // before y is read on, and the corner overwritten
  }
}
