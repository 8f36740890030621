// The steps of recurrent layers, forward and backward; equations as in reference/recurrent.py.
//
// A block takes ROWS rows of the batch through all steps: no block waits for another. Forward, a
// thread has some columns of the recurrent weights, which it reads once for all rows of the block,
// from the first level cache where they fit, else from the second; the states come through shared
// memory. Backward, a warp has some rows of the weights. The products with the input weights of all
// steps are taken before, or after, by the dense layer's. States and the gradients by them change in
// place, in the arrays that are returned. A row that has ended stays as it is, and its results are 0.
#include "activations.cuh"

constexpr int ROWS = 4;
constexpr int DEPTH = 128;  // units of a state that are in shared memory at a time
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

// d += da R^T, of what `for_each_unit` has written.
__device__ inline void product_back(const Sequences& all, int top, const real* da, const real* weights,
                                    int columns, int t, real* d) {
  __syncthreads();
  const int lane = threadIdx.x % WARP;
  for (int unit = threadIdx.x / WARP; unit < all.units; unit += THREADS / WARP) {
    const real* weight = weights + (size_t)unit * columns;
    real sums[ROWS] = {};
    for (int column = lane; column < columns; column += WARP)
      for (int r = 0; r < ROWS; ++r)
        if (top + r < all.batch)
          sums[r] += da[all.place(top + r, t) * columns + column] * weight[column];
    for (int r = 0; r < ROWS; ++r) {
      const real sum = lanes_sum(sums[r], WARP);
      if (lane == 0 && top + r < all.batch) d[(size_t)(top + r) * all.units + unit] += sum;
    }
  }
  __syncthreads();
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

// --- backward: dz, what R^T takes of it, and the states before each step ---------------------------

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
rnn_steps_back(const real* dy, const real* weights, const real* y, const real* h0,
               const void* lengths, int length_bytes, int* fault, const real* dlast, real* dz,
               real* before, real* dh, int activation_id, int batch, int steps, int units,
               int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, dlast, dh);
    for (int k = steps - 1; k >= 0; --k) {
      const int t = all.position(k);
      for_each_unit(all, top, [&](int row, int j) {
        const int count = all.length(row);
        const size_t at = all.place(row, t) * units + j;
        real& d = dh[(size_t)row * units + j];
        const bool runs = t < count;
        const real sum = runs && dy ? d + dy[at] : d;
        const real of = activation_id == RELU ? differentiate<RELU>(sum, y[at], real(0))
                                              : differentiate<TANH>(sum, y[at], real(0));
        dz[at] = runs ? of : real(0);
        before[at] = runs ? all.before(y, h0, row, t, count, j) : real(0);
        if (runs) d = 0;
      });
      product_back(all, top, dz, weights, units, t, dh);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
lstm_steps_back(const real* dy, const real* weights, const real* y, const real* cells,
                const real* gates, const real* h0, const real* c0, const void* lengths,
                int length_bytes, int* fault, const real* dlast, const real* dlast_cell, real* dz,
                real* before, real* dh, real* dc, int batch, int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const int columns = 4 * units;
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, dlast, dh);
    begin(all, top, dlast_cell, dc);
    for (int k = steps - 1; k >= 0; --k) {
      const int t = all.position(k);
      for_each_unit(all, top, [&](int row, int j) {
        const int count = all.length(row);
        const size_t place = all.place(row, t), at = place * units + j;
        const size_t state = (size_t)row * units + j;
        real* const of = dz + place * columns + j;
        if (t >= count) {
          of[0] = of[units] = of[2 * units] = of[3 * units] = before[at] = 0;
          return;
        }
        const real* const gate = gates + place * columns + j;
        const real i = gate[0], f = gate[units], g = gate[2 * units], o = gate[3 * units];
        const real d = dy ? dh[state] + dy[at] : dh[state];
        const real tanh_c = activate<TANH>(cells[at], real(0));
        const real e = dc[state] + d * o * (1 - tanh_c * tanh_c);
        of[0] = e * g * i * (1 - i);
        of[units] = e * all.before(cells, c0, row, t, count, j) * f * (1 - f);
        of[2 * units] = e * i * (1 - g * g);
        of[3 * units] = d * tanh_c * o * (1 - o);
        before[at] = all.before(y, h0, row, t, count, j);
        dc[state] = e * f;
        dh[state] = 0;
      });
      product_back(all, top, dz, weights, columns, t, dh);
    }
  }
}

// da as dz, with dm in dn's place; dm alone as well.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
gru_steps_back(const real* dy, const real* weights, const real* y, const real* gates,
               const real* h0, const void* lengths, int length_bytes, int* fault,
               const real* dlast, real* dz, real* da, real* dm, real* before, real* dh, int batch,
               int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const int columns = 3 * units;
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS) {
    begin(all, top, dlast, dh);
    for (int k = steps - 1; k >= 0; --k) {
      const int t = all.position(k);
      for_each_unit(all, top, [&](int row, int j) {
        const int count = all.length(row);
        const size_t place = all.place(row, t), at = place * units + j;
        real& d = dh[(size_t)row * units + j];
        real dr = 0, du = 0, dn = 0, of_m = 0, h = 0;
        if (t < count) {
          const real* const gate = gates + place * 4 * units + j;
          const real r = gate[0], u = gate[units], n = gate[2 * units], m = gate[3 * units];
          if (dy) d += dy[at];
          h = all.before(y, h0, row, t, count, j);
          dn = d * (1 - u) * (1 - n * n);
          du = d * (h - n) * u * (1 - u);
          dr = dn * m * r * (1 - r);
          of_m = dn * r;
          d *= u;
        }
        real* const of_z = dz + place * columns + j;
        real* const of_a = da + place * columns + j;
        of_z[0] = of_a[0] = dr;
        of_z[units] = of_a[units] = du;
        of_z[2 * units] = dn;
        of_a[2 * units] = dm[at] = of_m;
        before[at] = h;
      });
      product_back(all, top, da, weights, columns, t, dh);
    }
  }
}
