// Softmax and the cross-entropies. A narrow row stays in the registers of up to 32 lanes; a wide
// row is one block's, which reads it twice, the second time from cache: memory is read once in
// both. One thread reads and writes an element, so the output may be the logits. Sums over the
// batch are taken without atomics: blocks leave partial sums and `total` adds them up.
#include "common.cuh"

// A row's maximum m, sum = sum_j exp(x_j - m) and, where it is asked for, sum_x = sum_j x_j.
struct Row {
  real m, sum, sum_x;
};

struct Softmax {
  __device__ void begin(const real*, int, const Row&, int, int) {}
  __device__ bool smooths() const { return false; }
  __device__ real output(int, real p) const { return p; }
};

struct LogSoftmax {
  const real* x;
  real m, log_sum;
  __device__ void begin(const real* given, int, const Row& row, int, int) {
    x = given, m = row.m, log_sum = log(row.sum);
  }
  __device__ bool smooths() const { return false; }
  __device__ real output(int j, real) const { return x[j] - m - log_sum; }
};

// The mean loss and its gradient, with targets t_j = (1 - s) [j = label] + s / classes. 1 - s is
// given, not taken here: in float32 it would lose digits.
struct CrossEntropy {
  const void* labels;
  int label_bytes;
  int* fault;
  int classes;
  real smoothing, one_minus_smoothing, scale;  // scale = 1 / rows
  int label;
  real loss;  // this thread's share of the mean

  // A label that names no class is never used as an index: it marks `fault` and makes its row NaN.
  __device__ void read_label(int number) {
    const long long given = label_bytes == 8 ? static_cast<const long long*>(labels)[number]
                                             : static_cast<const int*>(labels)[number];
    label = 0 <= given && given < classes ? given : -1;
    if (label >= 0) return;
    atomicExch(fault, classes);
    loss = not_a_number();
  }

  // Loss of a row: log sum_k exp(x_k - m) + sum_j t_j (m - x_j); the label's own thread adds it.
  __device__ void begin(const real* x, int number, const Row& row, int thread, int threads) {
    read_label(number);
    if (label < 0 || label % threads != thread) return;
    real nats = log(row.sum) + one_minus_smoothing * (row.m - x[label]);
    if (smooths()) nats += smoothing * (row.m - row.sum_x / classes);
    loss += nats * scale;
  }

  __device__ bool smooths() const { return smoothing > 0; }

  __device__ real output(int j, real p) const {
    const real target = smoothing / classes + (j == label ? one_minus_smoothing : real(0));
    return label < 0 ? not_a_number() : (p - target) * scale;
  }
};

// Each row by `lanes` neighbouring lanes, a power of two, with ITEMS elements a lane.
template <int ITEMS, class Objective>
__device__ void narrow_rows(const real* logits, real* out, int rows, int classes, int lanes,
                            Objective& objective) {
  if (ITEMS > 1) lanes = WARP;  // known at compile time, as the distances below then are
  const int lane = threadIdx.x % lanes, at_once = THREADS / lanes;
  for (int base = blockIdx.x * at_once; base < rows; base += gridDim.x * at_once) {
    const int number = base + threadIdx.x / lanes;
    const bool active = number < rows;  // the others come along: shuffles need the whole warp
    const real* x = logits + (size_t)number * classes;
    real* y = out + (size_t)number * classes;
    real e[ITEMS];
    Row row = {-infinity(), 0, 0};
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      const int j = lane + k * lanes;
      const bool inside = active && j < classes;
      e[k] = inside ? x[j] : -infinity();
      row.m = fmax(row.m, e[k]);
      if (inside && objective.smooths()) row.sum_x += e[k];
    }
    row.m = lanes_max(row.m, lanes);
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      e[k] = exp(e[k] - row.m);
      row.sum += e[k];
    }
    row.sum = lanes_sum(row.sum, lanes);
    if (objective.smooths()) row.sum_x = lanes_sum(row.sum_x, lanes);
    if (!active) continue;
    objective.begin(x, number, row, lane, lanes);
    const real inverse = 1 / row.sum;
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      const int j = lane + k * lanes;
      if (j < classes) y[j] = objective.output(j, e[k] * inverse);
    }
  }
}

template <class Objective>
__device__ void narrow(const real* logits, real* out, int rows, int classes, int lanes,
                       Objective& objective) {
  if (classes <= lanes) narrow_rows<1>(logits, out, rows, classes, lanes, objective);
  else if (classes <= 4 * lanes) narrow_rows<4>(logits, out, rows, classes, lanes, objective);
  else narrow_rows<16>(logits, out, rows, classes, lanes, objective);
}

// The part with the larger maximum is not rescaled: -inf - -inf is NaN.
__device__ inline Row merge(Row a, Row b) {
  const real m = a.m >= b.m ? a.m : b.m;
  const real sum_a = a.m == m ? a.sum : a.sum * exp(a.m - m);
  const real sum_b = b.m == m ? b.sum : b.sum * exp(b.m - m);
  return {m, sum_a + sum_b, a.sum_x + b.sum_x};
}

__device__ inline Row merge_lanes(Row row) {
  for (int distance = WARP / 2; distance > 0; distance /= 2)
    row = merge(row, {__shfl_xor_sync(ALL, row.m, distance),
                      __shfl_xor_sync(ALL, row.sum, distance),
                      __shfl_xor_sync(ALL, row.sum_x, distance)});
  return row;
}

// Each row by one block: maximum and sum in the first reading (Milakov and Gimelshein, Online
// normalizer calculation for softmax, 2018), the output in the second.
template <class Objective>
__device__ void wide(const real* logits, real* out, int rows, int classes, Objective& objective) {
  __shared__ Row parts[THREADS / WARP];
  const int lane = threadIdx.x % WARP;
  for (int number = blockIdx.x; number < rows; number += gridDim.x) {
    const real* x = logits + (size_t)number * classes;
    real* y = out + (size_t)number * classes;
    Row row = {-infinity(), 0, 0};
    for (int j = threadIdx.x; j < classes; j += THREADS) {
      const real value = x[j];
      if (value > row.m) {
        row.sum = row.sum * exp(row.m - value) + 1;
        row.m = value;
      } else if (value != -infinity()) {  // NaN comes here and stays
        row.sum += exp(value - row.m);
      }
      if (objective.smooths()) row.sum_x += value;
    }
    row = merge_lanes(row);
    if (lane == 0) parts[threadIdx.x / WARP] = row;
    __syncthreads();
    row = merge_lanes(lane < THREADS / WARP ? parts[lane] : Row{-infinity(), 0, 0});
    row.sum += row.m - row.m;  // NaN where it is infinite, as x - m is in a narrow row
    objective.begin(x, number, row, threadIdx.x, THREADS);
    const real inverse = 1 / row.sum;
    for (int j = threadIdx.x; j < classes; j += THREADS)
      y[j] = objective.output(j, exp(x[j] - row.m) * inverse);
    __syncthreads();  // before the next row overwrites `parts`
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
softmax_narrow(const real* logits, real* p, int rows, int classes, int lanes) {
  Softmax objective;
  narrow(logits, p, rows, classes, lanes, objective);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
softmax_wide(const real* logits, real* p, int rows, int classes) {
  Softmax objective;
  wide(logits, p, rows, classes, objective);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
log_softmax_narrow(const real* logits, real* y, int rows, int classes, int lanes) {
  LogSoftmax objective;
  narrow(logits, y, rows, classes, lanes, objective);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
log_softmax_wide(const real* logits, real* y, int rows, int classes) {
  LogSoftmax objective;
  wide(logits, y, rows, classes, objective);
}

// losses[block] = the block's share of the mean loss.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
cross_entropy_narrow(const real* logits, const void* labels, int label_bytes, real* losses,
                     real* dlogits, int* fault, int rows, int classes, real smoothing,
                     real one_minus_smoothing, real scale, int lanes) {
  CrossEntropy objective = {labels,    label_bytes,         fault, classes,
                            smoothing, one_minus_smoothing, scale, 0, 0};
  narrow(logits, dlogits, rows, classes, lanes, objective);
  const real loss = block_sum(objective.loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
cross_entropy_wide(const real* logits, const void* labels, int label_bytes, real* losses,
                   real* dlogits, int* fault, int rows, int classes, real smoothing,
                   real one_minus_smoothing, real scale) {
  CrossEntropy objective = {labels,    label_bytes,         fault, classes,
                            smoothing, one_minus_smoothing, scale, 0, 0};
  wide(logits, dlogits, rows, classes, objective);
  const real loss = block_sum(objective.loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// losses[block] = the block's share of -1/rows sum_i log p_i,label_i.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
sparse_cross_entropy(const real* probabilities, const void* labels, int label_bytes, real* losses,
                     int* fault, int rows, int classes, real scale) {
  CrossEntropy objective = {labels, label_bytes, fault, classes, 0, 1, scale, 0, 0};
  for (int row = blockIdx.x * THREADS + threadIdx.x; row < rows; row += gridDim.x * THREADS) {
    objective.read_label(row);
    if (objective.label >= 0)
      objective.loss -= log(probabilities[(size_t)row * classes + objective.label]) * scale;
  }
  const real loss = block_sum(objective.loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

// sum[0] = the sum of all values; one block.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
total(const real* values, real* sum, int count) {
  real value = 0;
  for (int i = threadIdx.x; i < count; i += THREADS) value += values[i];
  value = block_sum(value);
  if (threadIdx.x == 0) *sum = value;
}
