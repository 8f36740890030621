// Softmax along an axis behind which there are others: by columns, one a thread, so that
// neighbouring threads read neighbouring elements. A thread reads its column twice, the second time
// from cache where that holds the columns of a block. It alone reads and writes them: the output
// may be the logits.
#include "common.cuh"

constexpr int DEEP = 8;  // rows that are on their way at once

// `columns` columns of `length` elements, each `behind` from the next.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
softmax_columns(const real* logits, real* out, long long columns, int length, long long behind,
                int takes_log) {
  const long long first = (long long)blockIdx.x * THREADS + threadIdx.x;
  for (long long c = first; c < columns; c += (long long)gridDim.x * THREADS) {
    const long long begin = c / behind * length * behind + c % behind;
    const real* x = logits + begin;
    real* y = out + begin;
    real m = -infinity(), sum = 0;
    for (int row = 0; row < length; row += DEEP) {
      real e[DEEP], top = m;
#pragma unroll
      for (int k = 0; k < DEEP; ++k) {
        e[k] = row + k < length ? x[(row + k) * behind] : -infinity();
        top = fmax(top, e[k]);
      }
      if (top > m) {
        sum *= exp(m - top);
        m = top;
      }
      const real shift = m > -infinity() ? m : real(0);  // nothing but -inf yet: -inf - -inf is NaN
#pragma unroll
      for (int k = 0; k < DEEP; ++k) sum += exp(e[k] - shift);
    }
    const real log_sum = takes_log ? log(sum) : real(0), inverse = 1 / sum;
    for (int row = 0; row < length; ++row) {
      const real below = x[row * behind] - m;
      y[row * behind] = takes_log ? below - log_sum : exp(below) * inverse;
    }
  }
}
