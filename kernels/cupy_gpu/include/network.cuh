// What the training of small and of larger networks shares: which rows a step takes, the update of
// a parameter by the rule of the network, and the losses that take targets.
#include "gradients.cuh"
#include "rules.cuh"

// The numbers are those of kernels/catalog.py.
enum Loss { SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, MEAN_SQUARED_ERROR };
enum Fault { NONE, BAD_LABEL, BAD_ROW };

// What a step has of its own: the scalars of its rule, and its rate times the weight decay.
constexpr int DECAY = MOST_SCALARS, STEP_SCALARS = DECAY + 1;

// clip_value, clip_norm: 0 where nothing is clipped.
struct Settings {
  real smoothing, one_minus_smoothing, l2, clip_value, clip_norm;
};

__device__ inline bool in_unit_interval(real target) { return target >= 0 && target <= 1; }

// The rows order[0] ... of the data, or 0 ... where there is no order, and their labels.
struct Rows {
  const void* order;
  int order_bytes;
  const void* labels;
  int label_bytes;

  __device__ static long long integer(const void* from, int bytes, long long i) {
    return bytes == 8 ? static_cast<const long long*>(from)[i] : static_cast<const int*>(from)[i];
  }
  __device__ long long row(int i) const { return order ? integer(order, order_bytes, i) : i; }
  __device__ long long label(int i) const { return integer(labels, label_bytes, row(i)); }
  __device__ real target(int i, int j, int outputs) const {
    return static_cast<const real*>(labels)[row(i) * outputs + j];
  }

  __device__ bool label_in_range(int i, int loss, int outputs) const {
    if (loss == SOFTMAX_CROSS_ENTROPY) return label(i) >= 0 && label(i) < outputs;
    if (loss == SIGMOID_CROSS_ENTROPY)
      for (int j = 0; j < outputs; ++j)
        if (!in_unit_interval(target(i, j, outputs))) return false;
    return true;
  }

  // What is out of range among `count` rows, the same for every thread of the block.
  __device__ int fault(int count, int data_rows, int loss, int outputs) const {
    __shared__ int found;
    if (threadIdx.x == 0) found = NONE;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      if (row(i) < 0 || row(i) >= data_rows)
        atomicExch(&found, BAD_ROW);
      else if (!label_in_range(i, loss, outputs))
        atomicExch(&found, BAD_LABEL);
    }
    __syncthreads();
    return found;
  }
};

// A gradient with L2's share, clipped by value.
__device__ inline real limited(real grad, real param, const Settings& settings) {
  if (settings.l2 > 0) grad = penalised(grad, param, settings.l2);
  return settings.clip_value > 0 ? clipped(grad, settings.clip_value) : grad;
}

// The square of a gradient in units of the limit of their norm: where it underflows it is nothing
// beside 1, from where on there is something to clip.
__device__ inline real square(real grad, const Settings& settings) {
  const real share = grad / settings.clip_norm;
  return share * share;
}

// The factor that brings the gradients' norm to its limit, from each thread's share of their
// squares, for every thread of the block.
__device__ inline real clip_factor(real squares) {
  __shared__ real factor;
  squares = block_sum(squares);
  if (threadIdx.x == 0) factor = squares > 1 ? 1 / sqrt(squares) : real(1);
  __syncthreads();
  return factor;
}

// Decay and the rule on one parameter; its gradient and its states lie each `size` elements
// further on.
__device__ inline void apply(int rule, const real* scalars, real* param, int size) {
  if (scalars[DECAY] > 0) *param -= scalars[DECAY] * *param;
  with_rule(rule, [&](auto chosen) {
    constexpr int STATES = decltype(chosen)::STATES;
    real state[STATES + 1];  // one more: no array is empty
#pragma unroll
    for (int k = 0; k < STATES; ++k) state[k] = param[(2 + k) * size];
    decltype(chosen)::apply(*param, param[size], state, scalars);
#pragma unroll
    for (int k = 0; k < STATES; ++k) param[(2 + k) * size] = state[k];
  });
}

// One term of a loss that takes targets, and its derivative times `scale`.
__device__ inline real term(int loss, real x, real target, real smoothing,
                            real one_minus_smoothing, real scale, real& dx) {
  if (loss == MEAN_SQUARED_ERROR) {
    const real difference = x - target;
    dx = 2 * difference * scale;
    return difference * difference;
  }
  if (!in_unit_interval(target)) target = not_a_number();
  target = one_minus_smoothing * target + smoothing / 2;
  const real e = exp(-fabs(x));  // never overflows
  dx = ((x >= 0 ? real(1) : e) / (1 + e) - target) * scale;
  return (x <= 0 ? real(0) : x) - target * x + log1p(e);  // NaN stays NaN
}
