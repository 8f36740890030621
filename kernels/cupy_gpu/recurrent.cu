// The steps of recurrent layers, forward. A thread has some columns of the recurrent weights, which it
// reads once for all rows of the block, from the first level cache where they fit, else from the
// second; the states come through shared memory.
#include "sequences.cuh"

constexpr int DEPTH = 128;  // units of a state that are in shared memory at a time

// Calls finish(row, column, sum, is_first) with parts of the sums of state R; all are added up.
template <class Finish>
__device__ void product(const Sequences& all, int top, const real* state, const real* weights,
                        int columns, Finish finish) {
  __shared__ real part[ROWS][DEPTH];
  for (int first = 0; first < all.units; first += DEPTH) {
    __syncthreads();  // the states are written, and nobody reads the last part
    for (int i = threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
      const int row = top + i / DEPTH, unit = first + i % DEPTH;
      const bool inside = row < all.batch && unit < all.units;
      part[i / DEPTH][i % DEPTH] = inside ? state[(size_t)row * all.units + unit] : real(0);
    }
    __syncthreads();
    const int depth = all.units - first < DEPTH ? all.units - first : DEPTH;
    for (int column = threadIdx.x; column < columns; column += THREADS) {
      const real* weight = weights + (size_t)first * columns + column;
      real sums[ROWS] = {};
#pragma unroll 8
      for (int p = 0; p < depth; ++p, weight += columns)
        for (int r = 0; r < ROWS; ++r) sums[r] += part[r][p] * *weight;
      for (int r = 0; r < ROWS; ++r)
        if (top + r < all.batch) finish(top + r, column, sums[r], first == 0);
    }
  }
  __syncthreads();  // the sums are written
}

__device__ inline real sigmoid(real z) { return activate<SIGMOID>(z, real(0)); }

// y holds x W + b at first.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
rnn_steps(const real* weights, const real* h0, const void* lengths, int length_bytes, int* fault,
          real* y, real* last, int activation_id, int batch, int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, h0, last);
    for (int k = 0; k < steps; ++k) {
      const int t = all.position(k);
      product(all, top, last, weights, units, [&](int row, int column, real sum, bool) {
        y[all.place(row, t) * units + column] += sum;
      });
      for_each_unit(all, top, [&](int row, int j) {
        real& h = y[all.place(row, t) * units + j];
        if (t < all.length(row)) {
          h = activation_id == RELU ? activate<RELU>(h, real(0)) : activate<TANH>(h, real(0));
          last[(size_t)row * units + j] = h;
        } else {
          h = 0;
        }
      });
    }
  }
}

// gates hold x W + b at first.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
lstm_steps(const real* weights, const real* h0, const real* c0, const void* lengths, int length_bytes,
           int* fault, real* y, real* last, real* last_cell, real* cells, real* gates, int batch,
           int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const int columns = 4 * units;
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, h0, last);
    begin(all, top, c0, last_cell);
    for (int k = 0; k < steps; ++k) {
      const int t = all.position(k);
      product(all, top, last, weights, columns, [&](int row, int column, real sum, bool) {
        gates[all.place(row, t) * columns + column] += sum;
      });
      for_each_unit(all, top, [&](int row, int j) {
        const size_t place = all.place(row, t), state = (size_t)row * units + j;
        real* const z = gates + place * columns + j;
        const bool runs = t < all.length(row);
        const real i = sigmoid(z[0]), f = sigmoid(z[units]), o = sigmoid(z[3 * units]);
        const real g = activate<TANH>(z[2 * units], real(0));
        const real c = f * last_cell[state] + i * g, h = o * activate<TANH>(c, real(0));
        z[0] = runs ? i : real(0);
        z[units] = runs ? f : real(0);
        z[2 * units] = runs ? g : real(0);
        z[3 * units] = runs ? o : real(0);
        cells[place * units + j] = runs ? c : real(0);
        y[place * units + j] = runs ? h : real(0);
        if (runs) last_cell[state] = c, last[state] = h;
      });
    }
  }
}

// z holds x W + b at first, of r, u and n; bias_m is m's.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
gru_steps(real* z, const real* weights, const real* bias_m, const real* h0, const void* lengths,
          int length_bytes, int* fault, real* y, real* last, real* gates, int batch, int steps,
          int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const int columns = 3 * units;
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, h0, last);
    for (int k = 0; k < steps; ++k) {
      const int t = all.position(k);
      product(all, top, last, weights, columns, [&](int row, int column, real sum, bool is_first) {
        const size_t place = all.place(row, t);
        real& m = gates[place * 4 * units + units + column];
        if (column < 2 * units) z[place * columns + column] += sum;
        else m = (is_first ? bias_m[column - 2 * units] : m) + sum;
      });
      for_each_unit(all, top, [&](int row, int j) {
        const size_t place = all.place(row, t), state = (size_t)row * units + j;
        const real* const of = z + place * columns + j;
        real* const gate = gates + place * 4 * units + j;
        const bool runs = t < all.length(row);
        const real r = sigmoid(of[0]), u = sigmoid(of[units]), m = gate[3 * units];
        const real n = activate<TANH>(of[2 * units] + r * m, real(0));
        const real h = (1 - u) * n + u * last[state];
        gate[0] = runs ? r : real(0);
        gate[units] = runs ? u : real(0);
        gate[2 * units] = runs ? n : real(0);
        gate[3 * units] = runs ? m : real(0);
        y[place * units + j] = runs ? h : real(0);
        if (runs) last[state] = h;
      });
    }
  }
}
