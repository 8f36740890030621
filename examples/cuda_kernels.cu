// Softmax along rows: a block of 128 threads a row. REAL is float or double (-DREAL=...).

__device__ REAL larger(REAL a, REAL b) { return b > a || b != b ? b : a; }  // NaN is the largest

extern "C" __global__ void softmax_rows(const REAL* logits, REAL* out, int columns) {
  __shared__ REAL parts[128];
  const REAL* x = logits + (long long)blockIdx.x * columns;
  REAL* y = out + (long long)blockIdx.x * columns;
  const int me = threadIdx.x;

  REAL m = x[0];
  for (int j = me; j < columns; j += 128) m = larger(m, x[j]);
  parts[me] = m;
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (me < half) parts[me] = larger(parts[me], parts[me + half]);
    __syncthreads();
  }
  m = parts[0];
  __syncthreads();  // all have read it

  REAL sum = 0;
  for (int j = me; j < columns; j += 128) sum += exp(x[j] - m);
  parts[me] = sum;
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (me < half) parts[me] += parts[me + half];
    __syncthreads();
  }
  for (int j = me; j < columns; j += 128) y[j] = exp(x[j] - m) / parts[0];
}
