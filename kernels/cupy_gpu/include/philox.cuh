// Random words and numbers that are a function of where they stand; see reference/philox.py. The
// words of a block are those of four neighbouring elements, so a thread makes all four.
#pragma once

struct Words {
  unsigned at[4];
};

// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011): counter and key to four random words.
__device__ inline Words philox(Words counter, unsigned key0, unsigned key1) {
  unsigned c0 = counter.at[0], c1 = counter.at[1], c2 = counter.at[2], c3 = counter.at[3];
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long first = 0xD2511F53ull * c0, second = 0xCD9E8D57ull * c2;
    c0 = unsigned(second >> 32) ^ c1 ^ key0;
    c1 = unsigned(second);
    c2 = unsigned(first >> 32) ^ c3 ^ key1;
    c3 = unsigned(first);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Which random numbers are drawn: of a seed and a stream.
struct Draw {
  unsigned seed_low, seed_high, stream;

  __device__ Words block(unsigned long long number, unsigned step) const {
    const Words counter = {{unsigned(number), unsigned(number >> 32), stream, step}};
    return philox(counter, seed_low, seed_high);
  }
};

// 2 u - 1 with u = (w / 2^9 + 1/2) / 2^23: exact.
__device__ inline real symmetric(unsigned word) {
  return real(int(word >> 9) * 2 - 0x7fffff) * real(0x1p-23f);
}

// r cos 2 pi v and r sin 2 pi v, r = sqrt(-2 log u), of the u and v of two words (Box and Muller,
// Annals of Mathematical Statistics 29, 1958). sincospi takes 2 v, which is exact, times pi.
__device__ inline void normal_pair(const unsigned* words, real* pair) {
  const real u = real(int(words[0] >> 9) * 2 + 1) * real(0x1p-24f);
  const real twice_v = real(int(words[1] >> 9) * 2 + 1) * real(0x1p-23f);
  const real r = sqrt(-2 * log(u));
  real cosine, sine;
  sincospi(twice_v, &sine, &cosine);
  pair[0] = r * cosine;
  pair[1] = r * sine;
}
