// Which elements dropout keeps: a function of where they stand; see reference/dropout.py.
#pragma once
#include "philox.cuh"

struct Dropout {
  Draw draw;
  unsigned step, threshold;
  real scale;

  // Of the elements 4 block ... 4 block + 3 of an array: what each is multiplied with.
  __device__ Piece<4> factors(unsigned long long block) const {
    const Words words = draw.block(block, step);
    Piece<4> factor;
#pragma unroll
    for (int k = 0; k < 4; ++k) factor.at[k] = words.at[k] >= threshold ? scale : real(0);
    return factor;
  }
};
