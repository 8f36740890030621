// The matrix product by tiles, of any shape and of either transposition, with an epilogue.
//
// A thread computes SIDE x SIDE elements in registers, so that 16 multiplications follow two loads
// from shared memory, and a warp computes 16 x 32: each of the two loads is of 128 bytes at most, in
// different banks. The eight warps of a block lie side by side over a tile of 64 x 64; or, where
// there would be few of these, over one of 32 x 32 in four slices, each of which takes a quarter of
// the depth. Panels of both factors, DEPTH deep, pass through shared memory; while one is
// multiplied, the next already travels from global memory to registers. What lies outside a factor
// is zero, on both sides of a product, so that infinities and NaN stay in their rows and columns.
//
// A deep product is shared by several blocks as well: block (x, y, z) takes part z of the depth. All
// sums are added in an order that follows from the shape alone.
#include "common.cuh"

constexpr int SIDE = 4, PANEL = 2048;  // elements

template <int SPAN> struct Tile {
  static constexpr int ACROSS = SPAN / 32, DOWN = SPAN / 16;       // warps
  static constexpr int SLICES = THREADS / WARP / (ACROSS * DOWN);  // of a panel's depth
  static constexpr int DEPTH = PANEL / SPAN;
  static constexpr int PIECES = PANEL / THREADS / WIDTH;  // that a thread moves of a panel
};

// A panel in shared memory, its depth first. Rows are padded: see Factor::place.
template <int SPAN> struct alignas(16) Panel {
  real at[Tile<SPAN>::DEPTH][SPAN + WIDTH];
};

template <int SPAN> struct alignas(16) Panels {
  Panel<SPAN> left, right;
};

// A factor as it lies in memory, in rows of `length` elements: ALONG the depth (x in x W) or across.
template <int SPAN, bool ALONG> struct Factor {
  static constexpr int PIECES = Tile<SPAN>::PIECES;
  const real* matrix;
  int rows, length;
  bool wide;  // rows begin on 16-byte borders
  int row[PIECES], column[PIECES];  // where this thread's pieces of the panel begin
  Piece<WIDTH> travelling[PIECES];

  __device__ Factor(const real* matrix, int rows, int length)
      : matrix(matrix), rows(rows), length(length), wide(aligned(matrix) && length % WIDTH == 0) {}

  // The place of piece k in the panel. Along the depth a warp takes two neighbouring pieces, a
  // sector of 32 bytes, of 16 rows: as columns of the padded panel they fall into different banks.
  __device__ static int row_of(int k) {
    const int piece = threadIdx.x + k * THREADS;
    return ALONG ? piece % 16 + piece / 32 * 16 % SPAN : piece * WIDTH / SPAN;
  }
  __device__ static int column_of(int k) {
    const int piece = threadIdx.x + k * THREADS;
    return ALONG ? (piece / 16 % 2 + piece / (2 * SPAN) * 2) * WIDTH : piece * WIDTH % SPAN;
  }

  // From now on: the panel that begins at `first` of the span and at `depth`.
  __device__ void begin(int first, int depth) {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
      row[k] = row_of(k) + (ALONG ? first : depth);
      column[k] = column_of(k) + (ALONG ? depth : first);
    }
  }

  // The next panel of the depth.
  __device__ void advance() {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) (ALONG ? column : row)[k] += Tile<SPAN>::DEPTH;
  }

  // How many elements from the beginning of piece k on lie inside the factor.
  __device__ int inside(int k) const { return row[k] < rows ? length - column[k] : 0; }

  // From global memory to registers. Nothing but the address depends on what lies inside, so that
  // nobody waits for a load before `put`: all else is read from the first element.
  __device__ void fetch() {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
      const real* from = inside(k) > 0 ? matrix + (size_t)row[k] * length + column[k] : matrix;
      if (wide) {
        travelling[k] = load<WIDTH>(from);
      } else {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) travelling[k].at[i] = from[i < inside(k) ? i : 0];
      }
    }
  }

  // From registers to shared memory, what lies outside as zero.
  __device__ void put(Panel<SPAN>& panel) const {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
      Piece<WIDTH> piece;
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) piece.at[i] = i < inside(k) ? travelling[k].at[i] : real(0);
      if (ALONG) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) panel.at[column_of(k) + i][row_of(k)] = piece.at[i];
      } else {
        store(&panel.at[row_of(k)][column_of(k)], piece);
      }
    }
  }
};

// A thread's sums to `memory`, where the rows of a tile are SPAN long.
template <int SPAN>
__device__ void leave(real* memory, const real (&sums)[SIDE][SIDE]) {
#pragma unroll
  for (int i = 0; i < SIDE; ++i) {
    Piece<SIDE> piece;
#pragma unroll
    for (int j = 0; j < SIDE; ++j) piece.at[j] = sums[i][j];
    store(memory + i * SPAN, piece);
  }
}

// Calls finish(row, column, sums) for each SIDE elements of a row of the product of two factors, over
// the block's part of the depth.
template <int SPAN, class Left, class Right, class Finish>
__device__ void product(Left left, Right right, int rows, int columns, int depth, Finish finish) {
  using T = Tile<SPAN>;
  using Shared = Panels<SPAN>;
  constexpr int DEPTH = T::DEPTH, STEPS = DEPTH / T::SLICES;
  __shared__ Shared panels;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int slice = warp / (T::ACROSS * T::DOWN);
  const int down = warp / T::ACROSS % T::DOWN * 16 + lane / 8 * SIDE;
  const int across = warp % T::ACROSS * 32 + lane % 8 * SIDE;
  const int part = ((depth + DEPTH - 1) / DEPTH + gridDim.z - 1) / gridDim.z * DEPTH;
  const int begin = blockIdx.z * part, end = begin + part < depth ? begin + part : depth;
  for (int top = blockIdx.y * SPAN; top < rows; top += gridDim.y * SPAN)
    for (int first = blockIdx.x * SPAN; first < columns; first += gridDim.x * SPAN) {
      real sums[SIDE][SIDE] = {};
      left.begin(top, begin);
      right.begin(first, begin);
      if (begin < end) {
        left.fetch();
        right.fetch();
      }
      for (int done = begin; done < end; done += DEPTH) {
        left.put(panels.left);
        right.put(panels.right);
        __syncthreads();
        left.advance();  // beyond the depth: to nothing
        right.advance();
        left.fetch();
        right.fetch();
#pragma unroll 8
        for (int step = 0; step < STEPS; ++step) {
          const int k = slice * STEPS + step;
          const Piece<SIDE> x = load<SIDE>(&panels.left.at[k][down]);
          const Piece<SIDE> y = load<SIDE>(&panels.right.at[k][across]);
#pragma unroll
          for (int i = 0; i < SIDE; ++i)
#pragma unroll
            for (int j = 0; j < SIDE; ++j) sums[i][j] += x.at[i] * y.at[j];
        }
        __syncthreads();  // before the next panels overwrite what is still being read
      }

      // Through the panels' memory the sums come to all threads of the block, 32 rows at a time: of a
      // small tile in two layers, after the sums of four slices have become those of two.
      constexpr int HEIGHT = 32, LAYERS = T::SLICES > 1 ? 2 : 1, LAYER = HEIGHT * SPAN;
      real* const memory = &panels.left.at[0][0];
      real* const mine = memory + slice % LAYERS * LAYER + down % HEIGHT * SPAN + across;
      if (T::SLICES > LAYERS) {
        if (slice >= LAYERS) leave<SPAN>(mine, sums);
        __syncthreads();
        if (slice < LAYERS)
#pragma unroll
          for (int i = 0; i < SIDE; ++i) {
            const Piece<SIDE> other = load<SIDE>(mine + i * SPAN);
#pragma unroll
            for (int j = 0; j < SIDE; ++j) sums[i][j] += other.at[j];
          }
      }
      for (int height = 0; height < SPAN; height += HEIGHT) {
        if (slice < LAYERS && down / HEIGHT * HEIGHT == height) leave<SPAN>(mine, sums);
        __syncthreads();
        for (int place = threadIdx.x * SIDE; place < LAYER; place += THREADS * SIDE) {
          Piece<SIDE> piece = load<SIDE>(memory + place);
          if (LAYERS > 1) {
            const Piece<SIDE> other = load<SIDE>(memory + LAYER + place);
#pragma unroll
            for (int j = 0; j < SIDE; ++j) piece.at[j] += other.at[j];
          }
          finish(top + height + place / SPAN, first + place % SPAN, piece);
        }
        __syncthreads();  // before others take the memory
      }
    }
}

// Writes those of SIDE elements of a row that lie inside the matrix (rows, columns).
__device__ inline void write(real* matrix, int rows, int columns, int row, int column,
                             const Piece<SIDE>& values) {
  if (row >= rows) return;
  real* const to = matrix + (size_t)row * columns + column;
  if (aligned(matrix) && columns % WIDTH == 0 && column + SIDE <= columns) {
    store(to, values);
  } else {
#pragma unroll
    for (int j = 0; j < SIDE; ++j)
      if (column + j < columns) to[j] = values.at[j];
  }
}
