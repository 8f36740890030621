// The steps of recurrent layers, backward: dz, what R^T takes of it, and the states before each step.
// A warp has some rows of the recurrent weights.
#include "sequences.cuh"

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

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
rnn_steps_back(const real* weights, const real* dy, const real* y, const real* h0,
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
lstm_steps_back(const real* weights, const real* dy, const real* y, const real* cells,
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
gru_steps_back(const real* weights, const real* dy, const real* y, const real* gates,
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
