// What a chain of launches that trains a larger network needs beside its dense layers.
#include "network.cuh"

// The fault of `count` rows that are about to be trained on, and no loss yet; one block.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
begin_rows(int data_rows, const void* labels, int label_bytes, const void* order, int order_bytes,
           int count, int loss, int outputs, int* fault, real* outcome) {
  const Rows data = {order, order_bytes, labels, label_bytes};
  const int found = data.fault(count, data_rows, loss, outputs);
  if (threadIdx.x > 0) return;
  *fault = found;
  outcome[0] = 0;
  outcome[1] = found;
}

// Rows first ... first + rows of the order to where the chain reads them: x to `input`, labels to
// `chosen`, or targets to `targets`; and what else this step has of its own to `clock`: its
// scalars, and the share of its loss in the outcome.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
gather_rows(const real* x, const void* labels, int label_bytes, const void* order, int order_bytes,
            int first, int rows, int fan_in, int outputs, int loss, const int* fault, real* input,
            int* chosen, real* targets, real* clock, const real* scalars, real share) {
  if (*fault) return;
  const Rows data = {order, order_bytes, labels, label_bytes};
  const long long start = blockIdx.x * THREADS + threadIdx.x, stride = gridDim.x * THREADS;
  if (start < STEP_SCALARS) clock[start] = scalars[start];
  if (start == 0) clock[STEP_SCALARS] = share;
  for (long long i = start; i < (long long)rows * fan_in; i += stride)
    input[i] = x[data.row(first + i / fan_in) * fan_in + i % fan_in];
  if (loss == SOFTMAX_CROSS_ENTROPY)
    for (long long i = start; i < rows; i += stride) chosen[i] = data.label(first + i);
  else
    for (long long i = start; i < (long long)rows * outputs; i += stride)
      targets[i] = data.target(first + i / outputs, i % outputs, outputs);
}

// losses[block] = the block's share of the mean loss of n logits, and its gradient.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
target_loss(int loss, const real* logits, const real* targets, real* losses, real* dlogits,
            long long n, real smoothing, real one_minus_smoothing, real scale) {
  real sum = 0;
  for (long long i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
    sum += term(loss, logits[i], targets[i], smoothing, one_minus_smoothing, scale, dlogits[i]);
  sum = block_sum(sum * scale);
  if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}

// counts[block] = how many decisions of the block's are right: a row's largest logit (the first of
// equals) against its label, or each logit's sign against target > 1/2.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
right_decisions(int loss, const real* logits, const void* labels, int label_bytes, real* counts,
                long long n, int outputs) {
  real right = 0;
  for (long long i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    if (loss == SOFTMAX_CROSS_ENTROPY) {
      int largest = 0;
      for (int j = 1; j < outputs; ++j)
        if (logits[i * outputs + j] > logits[i * outputs + largest]) largest = j;
      right += Rows::integer(labels, label_bytes, i) == largest;
    } else {
      right += (logits[i] > 0) == (static_cast<const real*>(labels)[i] > real(0.5));
    }
  }
  right = block_sum(right);
  if (threadIdx.x == 0) counts[blockIdx.x] = right;
}

// All `size` gradients with L2's share, clipped by value; squares[block] = the sum of the block's.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
limit_gradients(const real* settings_numbers, real* state, int size, real* squares) {
  const Settings settings = *reinterpret_cast<const Settings*>(settings_numbers);
  real sum = 0;
  for (int p = blockIdx.x * THREADS + threadIdx.x; p < size; p += gridDim.x * THREADS) {
    const real grad = state[size + p] = limited(state[size + p], state[p], settings);
    sum += square(grad, settings);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// y = x + skip; y may be x.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
add(const real* x, const real* skip, real* y, long long n) {
  for_each_piece(n, aligned(x, skip) && aligned(y, y), [&](auto width, long long i) {
    constexpr int N = decltype(width)::value;
    Piece<N> sum = load<N>(x + i);
    const Piece<N> other = load<N>(skip + i);
    for (int k = 0; k < N; ++k) sum.at[k] += other.at[k];
    store(y + i, sum);
  });
}

// Before a step the copy of the running statistics is made like them; after it they become like the
// copy, unless there was a fault.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
settle_running(const int* fault, real* copy, real* running, int size, int after) {
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < size; i += gridDim.x * THREADS)
    if (!after) copy[i] = running[i];
    else if (!*fault) running[i] = copy[i];
}

// The update rule on all `size` parameters, and this step's loss into the outcome. squares: where
// gradients are clipped by their norm, what limit_gradients has left. After a fault nothing changes.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
update_all(int rule, const real* settings_numbers, const real* clock, const int* fault, real* state,
           int size, const real* squares, int parts, const real* loss, real* outcome) {
  if (*fault) return;
  const Settings settings = *reinterpret_cast<const Settings*>(settings_numbers);
  const int start = blockIdx.x * THREADS + threadIdx.x;
  if (start == 0) outcome[0] += clock[STEP_SCALARS] * *loss;
  real factor = 1;
  if (parts > 0) {
    real sum = 0;
    for (int k = threadIdx.x; k < parts; k += THREADS) sum += squares[k];
    factor = clip_factor(sum);
  }
  for (int p = start; p < size; p += gridDim.x * THREADS) {
    real* grad = state + size + p;
    *grad = parts > 0 ? *grad * factor : limited(*grad, state[p], settings);
    apply(rule, clock, state + p, size);
  }
}
