// What the steps of recurrent layers share; equations as in reference/recurrent.py.
//
// A block takes ROWS rows of the batch through all steps: no block waits for another. The products
// with the input weights of all steps are taken before, or after, by the dense layer's. States and
// the gradients by them change in place, in the arrays that are returned. A row that has ended stays
// as it is, and its results are 0.
#include "activations.cuh"

constexpr int ROWS = 4;
constexpr int LENGTH_FAULT = -4;  // as in loss_arguments.py

// The layer's sizes, and how its rows are read.
struct Sequences {
  const void* lengths;  // or null: all steps
  int length_bytes;
  int* fault;
  int batch, steps, units, reverse;

  // One that is out of range marks `fault`, and is never used as an index.
  __device__ int length(int row) const {
    if (!lengths) return steps;
    const long long given = length_bytes == 8 ? static_cast<const long long*>(lengths)[row]
                                              : static_cast<const int*>(lengths)[row];
    if (1 <= given && given <= steps) return given;
    atomicExch(fault, LENGTH_FAULT);
    return steps;
  }

  __device__ size_t place(int row, int t) const { return (size_t)row * steps + t; }

  // The position that is read at step k.
  __device__ int position(int k) const { return reverse ? steps - 1 - k : k; }

  // The state before position t of a row, of which there are so many; null: 0.
  __device__ real before(const real* states, const real* first, int row, int t, int count, int j) const {
    const int from = reverse ? t + 1 : t - 1;
    if (0 <= from && from < count) return states[place(row, from) * units + j];
    return first ? first[(size_t)row * units + j] : real(0);
  }
};

// Calls body(row, j) for every unit of the block's rows, always by the same thread.
template <class Body> __device__ void for_each_unit(const Sequences& all, int top, Body body) {
  const int rows = all.batch - top < ROWS ? all.batch - top : ROWS;
  for (int i = threadIdx.x; i < rows * all.units; i += THREADS)
    body(top + i / all.units, i % all.units);
}

// state = first, or 0.
__device__ inline void begin(const Sequences& all, int top, const real* first, real* state) {
  for_each_unit(all, top, [&](int row, int j) {
    const size_t i = (size_t)row * all.units + j;
    state[i] = first ? first[i] : real(0);
  });
}
