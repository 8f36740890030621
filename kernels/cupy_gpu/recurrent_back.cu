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

// What every cell reads and writes; da is dz, but for a GRU, which alone has dm.
struct Back {
  const real *weights, *dy, *y, *h0, *dlast;
  real *dz, *da, *dm, *before, *dh;
  int columns;  // of all gates
};

// The block's rows back through all steps. d = cell(row, j, t, count, h, d, dz, da) forms dz of a unit
// from the gradient d by its h, h being the one before: it returns what goes on to that past R^T.
template <class Cell>
__device__ void back_through_time(const Sequences& all, const Back& of, Cell cell) {
  for (int top = blockIdx.x * ROWS; top < all.batch; top += gridDim.x * ROWS) {
    begin(all, top, of.dlast, of.dh);
    for (int k = all.steps - 1; k >= 0; --k) {
      const int t = all.position(k);
      for_each_unit(all, top, [&](int row, int j) {
        const int count = all.length(row);
        const size_t place = all.place(row, t), at = place * all.units + j;
        real* const dz = of.dz + place * of.columns + j;
        real* const da = of.da + place * of.columns + j;
        real& d = of.dh[(size_t)row * all.units + j];
        real h = 0;
        if (t < count) {
          h = all.before(of.y, of.h0, row, t, count, j);
          d = cell(row, j, t, count, h, of.dy ? d + of.dy[at] : d, dz, da);
        } else {
          for (int gate = 0; gate < of.columns; gate += all.units) dz[gate] = da[gate] = 0;
          if (of.dm) of.dm[at] = 0;
        }
        of.before[at] = h;
      });
      product_back(all, top, of.da, of.weights, of.columns, t, of.dh);
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
rnn_steps_back(const real* weights, const real* dy, const real* y, const real* h0,
               const void* lengths, int length_bytes, int* fault, const real* dlast, real* dz,
               real* before, real* dh, int activation_id, int batch, int steps, int units,
               int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const Back of = {weights, dy, y, h0, dlast, dz, dz, nullptr, before, dh, units};
  back_through_time(all, of, [&](int row, int j, int t, int, real, real d, real* dz, real*) {
    const real h = y[all.place(row, t) * units + j];
    *dz = activation_id == RELU ? differentiate<RELU>(d, h, real(0))
                                : differentiate<TANH>(d, h, real(0));
    return real(0);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
lstm_steps_back(const real* weights, const real* dy, const real* y, const real* cells,
                const real* gates, const real* h0, const real* c0, const void* lengths,
                int length_bytes, int* fault, const real* dlast, const real* dlast_cell, real* dz,
                real* before, real* dh, real* dc, int batch, int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const Back of = {weights, dy, y, h0, dlast, dz, dz, nullptr, before, dh, 4 * units};
  for (int top = blockIdx.x * ROWS; top < batch; top += gridDim.x * ROWS)
    begin(all, top, dlast_cell, dc);  // each unit by the thread that has it in all steps
  back_through_time(all, of, [&](int row, int j, int t, int count, real, real d, real* dz, real*) {
    const size_t place = all.place(row, t), state = (size_t)row * units + j;
    const real* const gate = gates + place * 4 * units + j;
    const real i = gate[0], f = gate[units], g = gate[2 * units], o = gate[3 * units];
    const real tanh_c = activate<TANH>(cells[place * units + j], real(0));
    const real e = dc[state] + d * o * (1 - tanh_c * tanh_c);
    dz[0] = e * g * i * (1 - i);
    dz[units] = e * all.before(cells, c0, row, t, count, j) * f * (1 - f);
    dz[2 * units] = e * i * (1 - g * g);
    dz[3 * units] = d * tanh_c * o * (1 - o);
    dc[state] = e * f;
    return real(0);
  });
}

// da as dz, with dm in dn's place; dm alone as well.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT / 2)
gru_steps_back(const real* weights, const real* dy, const real* y, const real* gates,
               const real* h0, const void* lengths, int length_bytes, int* fault,
               const real* dlast, real* dz, real* da, real* dm, real* before, real* dh, int batch,
               int steps, int units, int reverse) {
  const Sequences all = {lengths, length_bytes, fault, batch, steps, units, reverse};
  const Back of = {weights, dy, y, h0, dlast, dz, da, dm, before, dh, 3 * units};
  back_through_time(all, of, [&](int row, int j, int t, int, real h, real d, real* dz, real* da) {
    const size_t place = all.place(row, t);
    const real* const gate = gates + place * 4 * units + j;
    const real r = gate[0], u = gate[units], n = gate[2 * units], m = gate[3 * units];
    const real dn = d * (1 - u) * (1 - n * n);
    dz[0] = da[0] = dn * m * r * (1 - r);
    dz[units] = da[units] = d * (h - n) * u * (1 - u);
    dz[2 * units] = dn;
    da[2 * units] = dm[place * units + j] = dn * r;
    return d * u;
  });
}
