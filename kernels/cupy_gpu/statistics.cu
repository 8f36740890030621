// Counts, histograms and norms: each array is read once. Counts are integers, so that atomics may
// add them up in any order; sums of squares are left by the blocks and added up in a fixed one.
#include "common.cuh"

// Numbers are compared by integers of the same order: under -ftz=true, which CuPy passes, a
// subnormal float32 would compare equal to 0. Only -0 and 0, -1 and 0 here, are then not equal.
__device__ inline int rank_of(float value) {
  const int bits = __float_as_int(value);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

__device__ inline long long rank_of(double value) {
  const long long bits = __double_as_longlong(value);
  return bits ^ ((bits >> 63) & 0x7fffffffffffffff);
}

using Rank = decltype(rank_of(real()));

// The numbers from low to high, or those outside; NaN is beyond both infinities and in neither.
struct Interval {
  Rank low, high, least, most;
  __device__ Interval(real from, real to)
      : low(rank_of(from)), high(rank_of(to)), least(rank_of(-infinity())), most(rank_of(infinity())) {
    if (low == 0) low = -1;
    if (high == -1) high = 0;
  }
  __device__ bool holds(real value) const {
    const Rank rank = rank_of(value);
    return low <= rank && rank <= high;
  }
  __device__ bool misses(real value) const {
    const Rank rank = rank_of(value);
    return (least <= rank && rank < low) || (high < rank && rank <= most);
  }
};

__device__ inline void add(long long* total, long long count) {
  if (count) atomicAdd(reinterpret_cast<unsigned long long*>(total), (unsigned long long)count);
}

// body(element) for this thread's share of the n elements.
template <class Body> __device__ void for_each_element(const real* x, long long n, Body body) {
  for_each_piece(n, aligned(x), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    const Piece<N> piece = load<N>(x + i);
    for (int k = 0; k < N; ++k) body(piece.at[k]);
  });
}

// counts[0] += how many are 0, counts[1] += how many are in [-threshold, threshold].
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
sparsity(const real* x, long long* counts, real threshold, long long n) {
  const Interval zero(0, 0), near(-threshold, threshold);
  int zeros = 0, small = 0;
  for_each_element(x, n, [&](real value) {
    zeros += zero.holds(value);
    small += near.holds(value);
  });
  zeros = block_sum(zeros);
  __syncthreads();  // before the next sum is taken where this one was
  small = block_sum(small);
  if (threadIdx.x > 0) return;
  add(counts, zeros);
  add(counts + 1, small);
}

// counts[unit] += in how many rows counted(element) holds. Blocks of (columns, rows).
template <class Counted>
__device__ void count_rows(const real* x, long long* counts, int rows, int units, Counted counted) {
  __shared__ int partial[THREADS];
  const int across = blockDim.x, down = blockDim.y, thread = threadIdx.y * across + threadIdx.x;
  for (int left = blockIdx.x * across; left < units; left += gridDim.x * across) {
    const int unit = left + threadIdx.x;
    int count = 0;
    if (unit < units) {
#pragma unroll 4
      for (int row = blockIdx.y * down + threadIdx.y; row < rows; row += gridDim.y * down)
        count += counted(x[(size_t)row * units + unit]);
    }
    partial[thread] = count;
    for (int half = down / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.y < half) partial[thread] += partial[thread + half * across];
    }
    if (threadIdx.y == 0 && unit < units) add(counts + unit, partial[thread]);
    __syncthreads();  // before the next tile overwrites what is still being read
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
count_inside(const real* x, long long* counts, real low, real high, int rows, int units) {
  const Interval interval(low, high);
  count_rows(x, counts, rows, units, [&](real value) { return interval.holds(value); });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
count_outside(const real* x, long long* counts, real low, real high, int rows, int units) {
  const Interval interval(low, high);
  count_rows(x, counts, rows, units, [&](real value) { return interval.misses(value); });
}

constexpr int SHARED_COUNTS = 2048;  // 8 KiB

// counts: of `bins` bins, then below, above, NaN. starts[k]: the least number whose bin is k or one
// behind it, infinity where there is none; highest: the largest in the last bin. A bin is found by
// its starts: by arithmetic in real it is only guessed, and by float64's it would be slow.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
histogram(const real* x, const real* __restrict__ starts, long long* counts, real highest, real scale,
          int bins, long long n) {
  __shared__ int found[SHARED_COUNTS];
  const bool shares = bins + 3 <= SHARED_COUNTS;
  if (shares)
    for (int k = threadIdx.x; k < bins + 3; k += THREADS) found[k] = 0;
  __syncthreads();
  const real first = starts[0];
  const Interval inside(first, highest), all(-infinity(), infinity());
  for_each_element(x, n, [&](real value) {
    const Rank rank = rank_of(value);
    int k = bins;
    if (inside.holds(value)) {
      k = fmin(fmax((value - first) * scale, real(0)), real(bins - 1));
      if (k >= bins) k = bins - 1;  // real(bins - 1) may have been rounded up
      while (k > 0 && rank < rank_of(starts[k])) --k;
      while (k + 1 < bins && rank_of(starts[k + 1]) <= rank) ++k;
    } else if (!all.holds(value)) {
      k = bins + 2;
    } else if (rank > inside.high) {
      k = rank < inside.low ? bins : bins + 1;  // below where no number is inside
    }
    if (shares) atomicAdd(found + k, 1);
    else add(counts + k, 1);
  });
  __syncthreads();
  if (shares)
    for (int k = threadIdx.x; k < bins + 3; k += THREADS) add(counts + k, found[k]);
}

// Blue's three sums of squares (ACM TOMS 4, 1978): elements whose squares may over- or underflow
// are scaled by a power of two before. Squares of the others lie in [2^-110, 2^90] in float32.
constexpr bool SINGLE = sizeof(real) == 4;
constexpr real BIG = SINGLE ? 0x1p45 : 0x1p480, SMALL = SINGLE ? 0x1p-55 : 0x1p-480;
constexpr real DOWN = SINGLE ? 0x1p-90 : 0x1p-750, UP = SINGLE ? 0x1p95 : 0x1p750;

struct Squares {
  real small, other, big;
};

__device__ inline Squares block_squares(Squares sums) {
  sums.small = block_sum(sums.small);
  __syncthreads();  // before the next sum is taken where this one was
  sums.other = block_sum(sums.other);
  __syncthreads();
  sums.big = block_sum(sums.big);
  return sums;
}

// sums[3 * (first + block)] and the two behind it: the sums of a block.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
squares(const real* x, real* sums, int first, long long n) {
  Squares mine = {0, 0, 0};
  for_each_element(x, n, [&](real value) {
    const real size = fabs(value);
    if (size > BIG) mine.big += (value * DOWN) * (value * DOWN);
    else if (size < SMALL) mine.small += (value * UP) * (value * UP);
    else mine.other += value * value;  // NaN too
  });
  mine = block_squares(mine);
  if (threadIdx.x > 0) return;
  real* const out = sums + 3 * ((size_t)first + blockIdx.x);
  out[0] = mine.small, out[1] = mine.other, out[2] = mine.big;
}

// The root of the sums of `count` blocks, for thread 0 of the only block.
__device__ inline real root_of(const real* sums, int count) {
  Squares mine = {0, 0, 0};
  for (int i = threadIdx.x; i < count; i += THREADS) {
    mine.small += sums[3 * (size_t)i];
    mine.other += sums[3 * (size_t)i + 1];
    mine.big += sums[3 * (size_t)i + 2];
  }
  mine = block_squares(mine);
  if (mine.big > 0) return sqrt(mine.big + mine.other * DOWN * DOWN) / DOWN;
  if (mine.other != 0) return sqrt(mine.other + mine.small / UP / UP);
  return sqrt(mine.small) / UP;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
root_of_squares(const real* sums, real* norm, int count) {
  const real root = root_of(sums, count);
  if (threadIdx.x == 0) *norm = root;
}

// And the factor that brings the norm to its limit.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
norm_and_factor(const real* sums, real* norm, real* factor, real limit, int count) {
  const real root = root_of(sums, count);
  if (threadIdx.x > 0) return;
  *norm = root;
  *factor = root > limit ? limit / root : real(1);
}
