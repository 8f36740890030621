// The cross-entropy with weights of classes, an ignored label, soft targets and any reduction. A
// row is taken by a few neighbouring lanes or, where it is long, by a whole block, which read it
// twice, the second time from cache. One thread reads and writes an element: dlogits may be the
// logits.
#include "common.cuh"

constexpr int BAD_SOFT_LABEL = -3;  // SOFT_LABEL_FAULT of kernels/loss_arguments.py

// Of a row or a part of it: the largest logit m, sum_j exp(x_j - m), sum_j of some other thing.
struct Part {
  real m, sum, other;
};

// The part with the larger maximum is not rescaled: -inf - -inf is NaN.
__device__ inline Part merge_parts(Part a, Part b) {
  const real m = a.m >= b.m ? a.m : b.m;
  const real sum_a = a.m == m ? a.sum : a.sum * exp(a.m - m);
  const real sum_b = b.m == m ? b.sum : b.sum * exp(b.m - m);
  return {m, sum_a + sum_b, a.other + b.other};
}

__device__ inline Part over_lanes(Part part, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    part = merge_parts(part, {__shfl_xor_sync(ALL, part.m, distance),
                              __shfl_xor_sync(ALL, part.sum, distance),
                              __shfl_xor_sync(ALL, part.other, distance)});
  return part;
}

// Over the `threads` of a row: so many lanes, a power of two, or the whole block. All get the
// result.
__device__ inline Part over_row(Part part, int threads) {
  if (threads <= WARP) return over_lanes(part, threads);
  __shared__ Part parts[THREADS / WARP];
  const int lane = threadIdx.x % WARP;
  part = over_lanes(part, WARP);
  if (lane == 0) parts[threadIdx.x / WARP] = part;
  __syncthreads();
  part = over_lanes(lane < THREADS / WARP ? parts[lane] : Part{-infinity(), 0, 0}, WARP);
  __syncthreads();  // before the next part overwrites `parts`
  return part;
}

// The targets t_j = w_j ((1 - s) q_j + s / classes) of rows.
struct Targets {
  const void* labels;
  int label_bytes;      // of one, or 0 where they are soft targets
  const real* weights;  // or null
  int classes, ignores;
  long long ignored;
  real rest, spread;  // 1 - s, s / classes
  long long label;    // of the row

  __device__ bool are_soft() const { return label_bytes == 0; }
  // Goes on to a row; returns whether it counts.
  __device__ bool begin(int row) {
    if (are_soft()) return true;
    label = label_bytes == 8 ? static_cast<const long long*>(labels)[row]
                             : static_cast<const int*>(labels)[row];
    return !ignores || label != ignored;
  }
  __device__ bool in_range() const { return are_soft() || (0 <= label && label < classes); }
  __device__ real given(int row, int j) const {
    if (!are_soft()) return j == label ? real(1) : real(0);
    return static_cast<const real*>(labels)[(size_t)row * classes + j];
  }
  __device__ real of(int row, int j) const {
    return (weights ? weights[j] : real(1)) * (rest * given(row, j) + spread);
  }
};

// losses[row] where each is asked for, else losses[block] = the block's share of the sum, divided;
// this and the gradient by *divisor where there is one, else times `scale`. What is out of range
// marks `fault` and makes its row NaN.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
weighted_cross_entropy(const real* logits, const void* labels, int label_bytes, const real* weights,
                       const real* divisor, real* losses, real* dlogits, int* fault, int rows,
                       int classes, int ignores, long long ignored, real smoothing,
                       real one_minus_smoothing, real scale, int each, int threads) {
  const real spread = smoothing / classes;
  Targets targets = {labels,  label_bytes,         weights, classes, ignores,
                     ignored, one_minus_smoothing, spread,  0};
  if (divisor) scale = *divisor > 0 ? 1 / *divisor : not_a_number();
  const int own = threadIdx.x % threads, at_once = THREADS / threads;
  real share = 0 * scale;  // this thread's of the loss; NaN where nothing is kept
  for (int base = blockIdx.x * at_once; base < rows; base += gridDim.x * at_once) {
    const int row = base + threadIdx.x / threads;
    const bool active = row < rows;  // the others come along: shuffles need the whole warp
    const bool kept = active && targets.begin(row);
    const bool wrong = kept && !targets.in_range();
    const int count = kept && !wrong ? classes : 0;
    const real* x = logits + (size_t)row * classes;
    real* y = dlogits + (size_t)row * classes;
    if (wrong && own == 0) atomicExch(fault, classes);
    Part part = {-infinity(), 0, 0};
    for (int j = own; j < count; j += threads) {
      const real value = x[j], q = targets.given(row, j);
      if (!(q >= 0 && q <= 1)) {
        atomicExch(fault, BAD_SOFT_LABEL);
        part.other = not_a_number();
      }
      part.other += targets.of(row, j);
      if (value > part.m) {
        part.sum = part.sum * exp(part.m - value) + 1;
        part.m = value;
      } else if (value != -infinity()) {  // NaN comes here and stays
        part.sum += exp(value - part.m);
      }
    }
    part = over_row(part, threads);
    part.sum += part.m - part.m;  // NaN where it is infinite
    const real size = part.other, of_p = size / part.sum;
    real nats = own == 0 && size != 0 ? size * log(part.sum) : real(0);
    for (int j = own; j < count; j += threads) {
      const real below = x[j] - part.m, t = targets.of(row, j);
      if (t != 0) nats -= t * below;
      y[j] = (exp(below) * of_p - t) * scale;
    }
    for (int j = own + count; active && j < classes; j += threads)
      y[j] = wrong ? not_a_number() : real(0);
    if (!kept) nats = 0;
    if (wrong) nats = not_a_number();
    if (each) {
      nats = over_row({-infinity(), 0, nats}, threads).other;
      if (active && own == 0) losses[row] = nats;
    } else if (kept) {
      share += nats * scale;
    }
  }
  if (each) return;
  share = block_sum(share);
  if (threadIdx.x == 0) losses[blockIdx.x] = share;
}
