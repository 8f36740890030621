// Losses of elements and their gradients in one pass over memory, each array moved once, in 16-byte
// pieces. One thread reads and writes an element, so a gradient may be an input. Sums are taken
// without atomics: blocks leave partial sums, and `total` of losses.cu adds them up.
#include "element_losses.cuh"

// dx and, of a loss with a variance, ds: the gradients times `scale`. Where each is asked for,
// losses[i] = the loss of element i, else losses[block] = `scale` times the sum of the block's.
// A value out of range marks `fault` and makes its element NaN.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
element_loss(int loss_id, const real* x, const real* t, const real* s, real* losses, real* dx,
             real* ds, int* fault, real a, real scale, int each, long long n) {
  real sum = 0;
  with_element_loss(loss_id, [&](auto constant) {
    constexpr int LOSS = decltype(constant)::value;
    const bool wide = aligned(x, t, s, dx, ds) && (!each || aligned(losses));
    for_each_piece(n, wide, [&](auto width, long long i) {
      constexpr int N = decltype(width)::value;
      Piece<N> value = load<N>(x + i), spread;
      const Piece<N> target = load<N>(t + i);
      if constexpr (LOSS == GAUSSIAN) spread = load<N>(s + i);
      Piece<N> loss;
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const real variance = LOSS == GAUSSIAN ? spread.at[k] : real(0);
        Term found = term<LOSS>(value.at[k], target.at[k], variance, a);
        if (const ElementFault wrong = fault_of<LOSS>(target.at[k], variance)) {
          atomicExch(fault, wrong);
          found = {not_a_number(), not_a_number(), not_a_number()};
        }
        sum += found.loss * scale;
        loss.at[k] = found.loss;
        value.at[k] = found.gradient * scale;
        if constexpr (LOSS == GAUSSIAN) spread.at[k] = found.of_variance * scale;
      }
      if (each) store(losses + i, loss);
      store(dx + i, value);
      if constexpr (LOSS == GAUSSIAN) store(ds + i, spread);
    });
  });
  if (each) return;
  sum = block_sum(sum);
  if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}
