// The matrix product by tiles, of any shape and of either transposition, with an epilogue.
//
// A block computes a square tile of the result, a thread PER x PER elements of it in registers, so
// that an element in shared memory is loaded once for PER multiplications. Panels of both factors,
// DEPTH deep, pass through shared memory; while one is multiplied, the next already travels from
// global memory to registers. What lies outside a factor is zero, on both sides of a product, so
// that infinities and NaN stay in their rows and columns.
#include "common.cuh"

constexpr int SIDE = 16;  // a block is SIDE x SIDE threads

template <int PER> struct Tile {
  static constexpr int SPAN = SIDE * PER;               // rows and columns
  static constexpr int DEPTH = 64 / PER;                // so that a panel is always 1024 elements,
  static constexpr int PIECES = 1024 / THREADS / WIDTH;  // of which each thread moves as many
};

// A panel in shared memory, its depth first; rows are padded against bank conflicts.
template <int PER> struct alignas(16) Panel {
  real at[Tile<PER>::DEPTH][Tile<PER>::SPAN + WIDTH];
};

// A factor as it lies in memory, in rows of `length` elements: ALONG the depth (x in x W) or across.
template <int PER, bool ALONG> struct Factor {
  static constexpr int LENGTH = ALONG ? Tile<PER>::DEPTH : Tile<PER>::SPAN;  // of a panel's rows
  const real* matrix;
  int rows, length;
  bool wide;  // rows begin on 16-byte borders
  Piece<WIDTH> travelling[Tile<PER>::PIECES];

  __device__ Factor(const real* matrix, int rows, int length)
      : matrix(matrix), rows(rows), length(length), wide(aligned(matrix) && length % WIDTH == 0) {}

  // From global memory to registers: the panel that begins at `first` of the span and at `depth`.
  __device__ void fetch(int first, int depth) {
#pragma unroll
    for (int k = 0; k < Tile<PER>::PIECES; ++k) {
      const int place = (threadIdx.x + k * THREADS) * WIDTH;
      const int row = (ALONG ? first : depth) + place / LENGTH;
      const int column = (ALONG ? depth : first) + place % LENGTH;
      const real* from = matrix + (size_t)row * length + column;
      travelling[k] = {};
      if (row >= rows || column >= length) continue;
      if (wide) {
        travelling[k] = load<WIDTH>(from);
      } else {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i)
          if (column + i < length) travelling[k].at[i] = from[i];
      }
    }
  }

  // From registers to shared memory.
  __device__ void put(Panel<PER>& panel) const {
#pragma unroll
    for (int k = 0; k < Tile<PER>::PIECES; ++k) {
      const int place = (threadIdx.x + k * THREADS) * WIDTH;
      const int row = place / LENGTH, column = place % LENGTH;
      if (ALONG) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) panel.at[column + i][row] = travelling[k].at[i];
      } else {
        store(&panel.at[row][column], travelling[k]);
      }
    }
  }
};

// Calls finish(row, column, sums) for each PER x PER elements of the product of two factors.
template <int PER, class Left, class Right, class Finish>
__device__ void product(Left left, Right right, int rows, int columns, int depth, Finish finish) {
  constexpr int SPAN = Tile<PER>::SPAN, DEPTH = Tile<PER>::DEPTH;
  using Shared = Panel<PER>;
  __shared__ Shared a;
  __shared__ Shared b;
  const int across = threadIdx.x % SIDE * PER, down = threadIdx.x / SIDE * PER;
  for (int top = blockIdx.y * SPAN; top < rows; top += gridDim.y * SPAN)
    for (int first = blockIdx.x * SPAN; first < columns; first += gridDim.x * SPAN) {
      real sums[PER][PER] = {};
      left.fetch(top, 0);
      right.fetch(first, 0);
      for (int done = 0; done < depth; done += DEPTH) {
        left.put(a);
        right.put(b);
        __syncthreads();
        left.fetch(top, done + DEPTH);  // beyond the depth: nothing
        right.fetch(first, done + DEPTH);
#pragma unroll 4  // all of it would take more registers than there are
        for (int k = 0; k < DEPTH; ++k) {
          const Piece<PER> x = load<PER>(&a.at[k][down]), y = load<PER>(&b.at[k][across]);
#pragma unroll
          for (int i = 0; i < PER; ++i)
#pragma unroll
            for (int j = 0; j < PER; ++j) sums[i][j] += x.at[i] * y.at[j];
        }
        __syncthreads();  // before the next panels overwrite what is still being read
      }
      finish(top + down, first + across, sums);
    }
}

// Writes those of the PER x PER elements that lie inside the matrix (rows, columns).
template <int PER>
__device__ void write(real* matrix, int rows, int columns, int row, int column,
                      const real (&values)[PER][PER]) {
  const bool whole = aligned(matrix) && columns % WIDTH == 0 && column + PER <= columns;
#pragma unroll
  for (int i = 0; i < PER; ++i) {
    if (row + i >= rows) return;
    real* to = matrix + (size_t)(row + i) * columns + column;
    Piece<PER> piece;
#pragma unroll
    for (int j = 0; j < PER; ++j) piece.at[j] = values[i][j];
    if (whole) {
      store(to, piece);
    } else {
#pragma unroll
      for (int j = 0; j < PER; ++j)
        if (column + j < columns) to[j] = piece.at[j];
    }
  }
}
