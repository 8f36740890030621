// Initial weights. Four neighbouring elements share a block of random words: one thread's.
#include "common.cuh"
#include "philox.cuh"

// weight[4 b ... 4 b + 3] = numbers(words of block b), of n elements.
template <class Numbers>
__device__ void fill(real* weight, long long n, Draw draw, Numbers numbers) {
  const bool wide = aligned(weight);
  const long long stride = (long long)gridDim.x * THREADS;
  for (long long b = (long long)blockIdx.x * THREADS + threadIdx.x; 4 * b < n; b += stride) {
    const Piece<4> piece = numbers(draw.block(b, 0));
    if (wide && 4 * b + 4 <= n) {
      store<4>(weight + 4 * b, piece);
    } else {
      for (int k = 0; k < 4 && 4 * b + k < n; ++k) weight[4 * b + k] = piece.at[k];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
fill_constant(real* weight, long long n, real value) {
  for_each_piece(n, aligned(weight), [=](auto width, long long i) {
    Piece<decltype(width)::value> piece;
    for (real& element : piece.at) element = value;
    store(weight + i, piece);
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
fill_uniform(real* weight, long long n, unsigned seed_low, unsigned seed_high, unsigned stream,
             real limit) {
  fill(weight, n, {seed_low, seed_high, stream}, [=](Words words) {
    Piece<4> piece;
#pragma unroll
    for (int k = 0; k < 4; ++k) piece.at[k] = limit * symmetric(words.at[k]);
    return piece;
  });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
fill_normal(real* weight, long long n, unsigned seed_low, unsigned seed_high, unsigned stream,
            real deviation) {
  fill(weight, n, {seed_low, seed_high, stream}, [=](Words words) {
    Piece<4> piece;
    normal_pair(words.at, piece.at);
    normal_pair(words.at + 2, piece.at + 2);
#pragma unroll
    for (int k = 0; k < 4; ++k) piece.at[k] *= deviation;
    return piece;
  });
}

// Clears all but `count` inputs of every unit, whose thread goes over them (Knuth, The Art of
// Computer Programming, vol. 2, 3rd ed., 1997, 3.4.2, algorithm S); the words are those of step 1.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
connect_units(real* weight, int fan_in, int fan_out, int count, unsigned seed_low,
              unsigned seed_high, unsigned stream) {
  const Draw draw = {seed_low, seed_high, stream};
  for (int unit = blockIdx.x * THREADS + threadIdx.x; unit < fan_out; unit += gridDim.x * THREADS) {
    unsigned missing = count;
    for (int i = 0; i < fan_in; ++i) {
      const long long element = (long long)i * fan_out + unit;
      const Words words = draw.block(element / 4, 1);
      const int place = element % 4;
      unsigned word = words.at[0];
#pragma unroll
      for (int k = 1; k < 4; ++k) word = place == k ? words.at[k] : word;
      const unsigned long long left = fan_in - i;
      if (unsigned(word * left >> 32) < missing) --missing;
      else weight[element] = 0;
    }
  }
}
