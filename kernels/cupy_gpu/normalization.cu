// Batch and layer normalisation. Variances are sums of squared distances from a mean that is known by
// then; what is added up for the mean itself are distances from one of the numbers. Nothing is added
// up by atomics: the same at every run.
#include "columns.cuh"

// Of a column's numbers in a block of (columns, rows), down the rows; every thread gets the sum.
__device__ inline real sum_down(real value, real (&partial)[THREADS]) {
  const int across = blockDim.x, thread = threadIdx.y * across + threadIdx.x;
  partial[thread] = value;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) partial[thread] += partial[thread + half * across];
  }
  __syncthreads();
  const real sum = partial[threadIdx.x];
  __syncthreads();  // before the next one is taken there
  return sum;
}

// The rows of a chunk, fewer in the last ones, below 1 where none are left.
struct Chunk {
  int first, count;
  __device__ Chunk(int number, int rows, int chunks) {
    const int each = (rows + chunks - 1) / chunks;
    first = number * each;
    count = rows - first < each ? rows - first : each;
  }
};

// means[k], squares[k]: of each column's rows in chunk k their mean, and the sum of their squared
// distances from it.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
column_moments(const real* x, real* means, real* squares, int rows, int units) {
  __shared__ real partial[THREADS];
  const Chunk chunk(blockIdx.y, rows, gridDim.y);
  const int count = chunk.count, down = blockDim.y;
  for (int left = blockIdx.x * blockDim.x; left < units; left += gridDim.x * blockDim.x) {
    const int unit = left + threadIdx.x;
    const bool inside = unit < units && count > 0;
    const real* column = x + (size_t)chunk.first * units + unit;
    const real shift = inside ? column[0] : real(0);
    real sum = 0, square = 0;
    if (inside)
      for (int row = threadIdx.y; row < count; row += down) sum += column[(size_t)row * units] - shift;
    const real mean = shift + sum_down(sum, partial) / count;
    if (inside)
      for (int row = threadIdx.y; row < count; row += down) {
        const real distance = column[(size_t)row * units] - mean;
        square += distance * distance;
      }
    square = sum_down(square, partial);
    if (threadIdx.y > 0 || !inside) continue;
    means[(size_t)blockIdx.y * units + unit] = mean;
    squares[(size_t)blockIdx.y * units + unit] = square;
  }
}

// The moments of all rows from those of the chunks (Chan, Golub and LeVeque, Algorithms for Computing
// the Sample Variance, The American Statistician 37, 1983), and what runs along: `unbiased` is
// rows / (rows - 1). means may begin where mean does.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
finish_moments(const real* means, const real* squares, real* mean, real* rstd, real* running_mean,
               real* running_variance, real momentum, real unbiased, real eps, int rows, int units,
               int chunks) {
  for (int unit = blockIdx.x * THREADS + threadIdx.x; unit < units; unit += gridDim.x * THREADS) {
    real m = means[unit], square = squares[unit];
    for (int k = 1; k < chunks; ++k) {
      const Chunk chunk(k, rows, chunks);
      if (chunk.count <= 0) break;
      const size_t place = (size_t)k * units + unit;
      const real distance = means[place] - m, seen = chunk.first;
      const real share = chunk.count / (seen + chunk.count);
      m += distance * share;
      square += squares[place] + distance * distance * share * seen;
    }
    const real variance = square / rows;
    mean[unit] = m;
    rstd[unit] = 1 / sqrt(variance + eps);
    running_mean[unit] += momentum * (m - running_mean[unit]);
    running_variance[unit] += momentum * (unbiased * variance - running_variance[unit]);
  }
}

// y = gamma (x - mean) r + beta + skip with r = spread or, where a variance is given,
// 1 / sqrt(it + eps); skip may be null. y may be x.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
scale_columns(const real* x, const real* mean, const real* spread, const real* gamma,
              const real* beta, const real* skip, real* y, real eps, int is_variance, long long n,
              int units) {
  for_each_piece(n, aligned(x, skip, y), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> piece = load<N>(x + i), more = {};
    if (skip) more = load<N>(skip + i);
    int unit = i % units;
    for (int k = 0; k < N; ++k) {
      const real r = is_variance ? 1 / sqrt(spread[unit] + eps) : spread[unit];
      piece.at[k] = (piece.at[k] - mean[unit]) * (gamma[unit] * r) + beta[unit] + more.at[k];
      if (++unit == units) unit = 0;
    }
    store(y + i, piece);
  });
}

// Sums over the rows: of dy h with h = (x - mean) rstd, and of dy; mean and rstd are numbers of the
// columns, or of the rows.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
gradient_sums(const real* dy, const real* x, const real* mean, const real* rstd, real* products,
              real* sums, int of_rows, int rows, int units) {
  __shared__ real partial[2][THREADS];
  real* const outputs[] = {products, sums};
  sum_over_rows(
      rows, units, outputs, partial, [&](size_t i) { return Element{dy[i], x[i]}; },
      [&](Element element, size_t i, int unit, auto& totals) {
        const int place = of_rows ? i / units : unit;
        totals[0] += element.gradient * ((element.saved - mean[place]) * rstd[place]);
        totals[1] += element.gradient;
      });
}

// dx = gamma rstd (dy - dbeta / rows - h dgamma / rows); dx may be dy.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
columns_gradient(const real* dy, const real* x, const real* gamma, const real* mean,
                 const real* rstd, const real* dgamma, const real* dbeta, real* dx, int rows,
                 long long n, int units) {
  for_each_piece(n, aligned(dy, x, dx), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> piece = load<N>(dy + i);
    const Piece<N> from = load<N>(x + i);
    int unit = i % units;
    for (int k = 0; k < N; ++k) {
      const real r = rstd[unit], h = (from.at[k] - mean[unit]) * r;
      piece.at[k] = gamma[unit] * r * (piece.at[k] - (dbeta[unit] + h * dgamma[unit]) / rows);
      if (++unit == units) unit = 0;
    }
    store(dx + i, piece);
  });
}

// --- rows: each by some neighbouring lanes, or by a whole block where it is wide -------------------

struct Lanes {
  int count, first_row, rows_at_once, thread;
  __device__ Lanes(int lanes)
      : count(lanes), first_row(blockIdx.x * (THREADS / lanes)),
        rows_at_once(gridDim.x * (THREADS / lanes)), thread(threadIdx.x % lanes) {}
  __device__ int row(int base) const { return base + threadIdx.x / count; }
  __device__ real sum(real value) const { return lanes_sum(value, count); }
};

struct Block {
  int count, first_row, rows_at_once, thread;
  __device__ Block() : count(THREADS), first_row(blockIdx.x), rows_at_once(gridDim.x),
                       thread(threadIdx.x) {}
  __device__ int row(int base) const { return base; }
  __device__ real sum(real value) const {
    __shared__ real total;
    value = block_sum(value);
    if (threadIdx.x == 0) total = value;
    __syncthreads();
    return total;  // which the next sum overwrites behind a barrier of its own
  }
};

template <class Group>
__device__ void normalize_rows(Group group, const real* x, const real* gamma, const real* beta,
                               const real* skip, real* y, real* mean, real* rstd, real eps,
                               int rows, int units) {
  for (int base = group.first_row; base < rows; base += group.rows_at_once) {
    const int row = group.row(base);
    const int width = row < rows ? units : 0;  // the others come along: sums need all threads
    const real* from = x + (size_t)row * units;
    const real shift = width ? from[0] : real(0);
    real sum = 0, square = 0;
    for (int j = group.thread; j < width; j += group.count) sum += from[j] - shift;
    const real m = shift + group.sum(sum) / units;
    for (int j = group.thread; j < width; j += group.count) square += (from[j] - m) * (from[j] - m);
    const real r = 1 / sqrt(group.sum(square) / units + eps);
    for (int j = group.thread; j < width; j += group.count) {
      const size_t place = (size_t)row * units + j;
      y[place] = (from[j] - m) * r * gamma[j] + beta[j] + (skip ? skip[place] : real(0));
    }
    if (group.thread == 0 && width) mean[row] = m, rstd[row] = r;
  }
}

// dx = rstd (g - mean of g - h mean of g h) along the row, g = gamma dy; dx may be dy.
template <class Group>
__device__ void rows_gradient(Group group, const real* dy, const real* x, const real* gamma,
                              const real* mean, const real* rstd, real* dx, int rows, int units) {
  for (int base = group.first_row; base < rows; base += group.rows_at_once) {
    const int row = group.row(base), width = row < rows ? units : 0;
    const real m = width ? mean[row] : real(0), r = width ? rstd[row] : real(0);
    const size_t place = (size_t)row * units;
    real sum = 0, product = 0;
    for (int j = group.thread; j < width; j += group.count) {
      const real g = gamma[j] * dy[place + j];
      sum += g;
      product += g * ((x[place + j] - m) * r);
    }
    sum = group.sum(sum) / units;
    product = group.sum(product) / units;
    for (int j = group.thread; j < width; j += group.count) {
      const real h = (x[place + j] - m) * r;
      dx[place + j] = r * (gamma[j] * dy[place + j] - sum - h * product);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
normalize_rows_narrow(const real* x, const real* gamma, const real* beta, const real* skip, real* y,
                      real* mean, real* rstd, real eps, int rows, int units, int lanes) {
  normalize_rows(Lanes(lanes), x, gamma, beta, skip, y, mean, rstd, eps, rows, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
normalize_rows_wide(const real* x, const real* gamma, const real* beta, const real* skip, real* y,
                    real* mean, real* rstd, real eps, int rows, int units) {
  normalize_rows(Block(), x, gamma, beta, skip, y, mean, rstd, eps, rows, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
rows_gradient_narrow(const real* dy, const real* x, const real* gamma, const real* mean,
                     const real* rstd, real* dx, int rows, int units, int lanes) {
  rows_gradient(Lanes(lanes), dy, x, gamma, mean, rstd, dx, rows, units);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
rows_gradient_wide(const real* dy, const real* x, const real* gamma, const real* mean,
                   const real* rstd, real* dx, int rows, int units) {
  rows_gradient(Block(), dy, x, gamma, mean, rstd, dx, rows, units);
}
