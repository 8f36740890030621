// Inner products, sums of vectors, and the directions that are made of these. Blocks leave partial
// sums; every block of the next kernel adds all of them up in the same order, so that no sum has a
// launch of its own, no number goes to the host, and all results are the same at every run.
#include "common.cuh"

constexpr int FLETCHER_REEVES = 1;

// The sum over the block, for every thread. Of the next such sum nothing is written before all have
// read this one: block_sum waits for them.
__device__ inline real sum_for_all(real value) {
  __shared__ real sum;
  value = block_sum(value);
  if (threadIdx.x == 0) sum = value;
  __syncthreads();
  return sum;
}

// What `count` blocks have left, for every thread.
__device__ inline real total_for_all(const real* sums, int count) {
  real value = 0;
  for (int i = threadIdx.x; i < count; i += THREADS) value += sums[i];
  return sum_for_all(value);
}

__device__ inline void leave(real* sums, real value) {
  value = sum_for_all(value);
  if (threadIdx.x == 0) sums[blockIdx.x] = value;
}

// sums[block] = the block's share of the sum of a b.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
inner_product(const real* a, const real* b, real* sums, long long n) {
  real sum = 0;
  for_each_piece(n, aligned(a, b), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    const Piece<N> one = load<N>(a + i), other = load<N>(b + i);
    for (int k = 0; k < N; ++k) sum += one.at[k] * other.at[k];
  });
  leave(sums, sum);
}

// y = x + length * direction; y may be either.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
add_scaled(const real* x, const real* direction, real* y, real length, long long n) {
  for_each_piece(n, aligned(x, direction, y), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> sum = load<N>(x + i);
    const Piece<N> added = load<N>(direction + i);
    for (int k = 0; k < N; ++k) sum.at[k] += length * added.at[k];
    store<N>(y + i, sum);
  });
}

// Four rows of the blocks' sums: g^T g, g^T (g - before), before^T before, g^T direction.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
conjugate_sums(const real* g, const real* before, const real* direction, real* sums, long long n) {
  real squares = 0, change = 0, squares_before = 0, slope = 0;
  for_each_piece(n, aligned(g, before, direction), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    const Piece<N> now = load<N>(g + i), then = load<N>(before + i), d = load<N>(direction + i);
    for (int k = 0; k < N; ++k) {
      squares += now.at[k] * now.at[k];
      change += now.at[k] * (now.at[k] - then.at[k]);
      squares_before += then.at[k] * then.at[k];
      slope += now.at[k] * d.at[k];
    }
  });
  leave(sums, squares);
  leave(sums + gridDim.x, change);
  leave(sums + 2 * gridDim.x, squares_before);
  leave(sums + 3 * gridDim.x, slope);
}

// out = beta * direction - g, or -g; out may be direction.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
conjugate_sum(const real* g, const real* direction, const real* sums, real* out, int method,
              int count, long long n) {
  const real squares = total_for_all(sums, count);
  const real change = total_for_all(sums + count, count);
  const real squares_before = total_for_all(sums + 2 * count, count);
  const real slope = total_for_all(sums + 3 * count, count);
  real beta = (method == FLETCHER_REEVES ? squares : change) / squares_before;
  if (method != FLETCHER_REEVES && beta < 0) beta = 0;
  const bool descends = beta < infinity() && beta * slope < squares;
  for_each_piece(n, aligned(g, direction, out), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> d = load<N>(direction + i);
    const Piece<N> gradient = load<N>(g + i);
    for (int k = 0; k < N; ++k)
      d.at[k] = descends ? beta * d.at[k] - gradient.at[k] : -gradient.at[k];
    store<N>(out + i, d);
  });
}

// For every pair, a row of blocks each, two rows of their sums: s^T y and y^T y.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
pair_sums(const real* steps, const real* differences, real* sums, long long n) {
  const real* s = steps + blockIdx.y * n;
  const real* y = differences + blockIdx.y * n;
  real curvature = 0, squares = 0;
  for_each_piece(n, aligned(s, y), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    const Piece<N> step = load<N>(s + i), difference = load<N>(y + i);
    for (int k = 0; k < N; ++k) {
      curvature += step.at[k] * difference.at[k];
      squares += difference.at[k] * difference.at[k];
    }
  });
  leave(sums + 2 * (size_t)blockIdx.y * gridDim.x, curvature);
  leave(sums + (2 * (size_t)blockIdx.y + 1) * gridDim.x, squares);
}

// scales[pair] = 1 / s^T y, 0 where the pair is left out; scales[pairs] = s^T y / y^T y of the
// newest that is not, 1 without any. One block.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
pair_scales(const real* sums, real* scales, int pairs, int count) {
  real newest = 1;
  for (int pair = 0; pair < pairs; ++pair) {
    const real curvature = total_for_all(sums + 2 * (size_t)pair * count, count);
    const real squares = total_for_all(sums + (2 * (size_t)pair + 1) * count, count);
    const real rho = 1 / curvature;
    const bool kept = rho > 0 && rho < infinity();
    if (kept) newest = curvature / squares;
    if (threadIdx.x == 0) scales[pair] = kept ? rho : real(0);
  }
  if (threadIdx.x == 0) scales[pairs] = newest;
}

// out = scale * (source + c * added), and the blocks' sums of the product with `following`, which
// the next step begins with, unless it is null. c follows from such sums of the step before:
// alpha = rho * total, kept in alphas[pair], c = -alpha on the way down; c = alpha - rho * total on
// the way up. Without `added`, or where the pair is left out, nothing is added. scale is `factor`,
// times *newest unless that is null.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
recursion_step(const real* source, const real* added, const real* following, const real* scales,
               const real* newest, const real* sums, real* out, real* next_sums, real* alphas,
               real factor, int pair, int up, int count, long long n) {
  real c = 0;
  const real rho = added ? scales[pair] : real(0);
  if (rho > 0) {  // the same in every thread
    const real product = rho * total_for_all(sums, count);
    c = up ? alphas[pair] - product : -product;
    if (!up && blockIdx.x == 0 && threadIdx.x == 0) alphas[pair] = product;
  }
  const real scale = newest ? factor * *newest : factor;
  real sum = 0;
  for_each_piece(n, aligned(source, added, following, out), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> r = load<N>(source + i);
    if (rho > 0) {
      const Piece<N> other = load<N>(added + i);
      for (int k = 0; k < N; ++k) r.at[k] += c * other.at[k];
    }
    for (int k = 0; k < N; ++k) r.at[k] *= scale;
    if (following) {
      const Piece<N> next = load<N>(following + i);
      for (int k = 0; k < N; ++k) sum += r.at[k] * next.at[k];
    }
    store<N>(out + i, r);
  });
  if (following) leave(next_sums, sum);
}
