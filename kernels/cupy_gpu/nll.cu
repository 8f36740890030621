// The negative log-likelihood of labels: one element of a row is read, and its gradient written.
#include "common.cuh"

struct Labels {
  const void* labels;
  int label_bytes, classes, ignores;
  long long ignored;

  __device__ long long at(long long row) const {
    return label_bytes == 8 ? static_cast<const long long*>(labels)[row]
                            : static_cast<const int*>(labels)[row];
  }
  __device__ bool kept(long long label) const { return !ignores || label != ignored; }
  __device__ bool in_range(long long label) const { return 0 <= label && label < classes; }
};

// sums[block] = the sum of the weights of the block's labels, 1 each where there are none given.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
label_weights(real* sums, const void* labels, int label_bytes, const real* weights, int rows,
              int classes, int ignores, long long ignored) {
  const Labels given = {labels, label_bytes, classes, ignores, ignored};
  real sum = 0;
  for (long long row = blockIdx.x * THREADS + threadIdx.x; row < rows; row += gridDim.x * THREADS) {
    const long long label = given.at(row);
    if (given.kept(label) && given.in_range(label)) sum += weights ? weights[label] : real(1);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// dy: the gradient by y, times scale, or divided by *divisor where there is one. Where each is asked
// for, losses[row] = the loss of a row, else losses[block] = the block's share of the sum, scaled. One
// thread reads and writes an element, so dy may be y. A label that names no class marks `fault` and
// makes its row NaN.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
nll(const real* y, const void* labels, int label_bytes, const real* weights, const real* divisor,
    real* losses, real* dy, int* fault, long long n, int classes, int ignores, long long ignored,
    real scale, int each) {
  const Labels given = {labels, label_bytes, classes, ignores, ignored};
  if (divisor) scale = 1 / *divisor;
  real sum = 0 * scale;  // NaN where nothing is kept
  const long long first = (long long)blockIdx.x * THREADS + threadIdx.x;
  for (long long i = first; i < n; i += (long long)gridDim.x * THREADS) {
    const long long row = i / classes, column = i - row * classes, label = given.at(row);
    const bool kept = given.kept(label), wrong = kept && !given.in_range(label);
    const bool chosen = column == (kept && !wrong ? label : 0);  // the thread that tells the loss
    real loss = wrong ? not_a_number() : real(0), gradient = loss;
    if (wrong && chosen) atomicExch(fault, classes);
    if (kept && !wrong && chosen) {
      const real weight = weights ? weights[label] : real(1);
      loss = -weight * y[i];
      gradient = -weight * scale;
    }
    dy[i] = gradient;
    if (chosen && each) losses[row] = loss;
    if (chosen && kept) sum += loss * scale;
  }
  if (each) return;
  sum = block_sum(sum);
  if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}
