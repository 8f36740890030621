// Augmentation; equations as in reference/augmentation.py. What lies beyond the border is found by
// arithmetic alone, so that all threads of a warp go the same way.
#include "common.cuh"
#include "philox.cuh"

enum Fill { CONSTANT_FILL, NEAREST, REFLECT, WRAP };

// One axis of n pixels. Any coordinate is brought between them and one more at each end: less whole
// periods, reflected, then limited.
struct Axis {
  int n, before, behind;  // what stands for the pixels just beyond the border; -1: the value does
  real period, inverse, turn, low, high;

  __device__ Axis(int n, int fill) : n(n), before(0), behind(n - 1) {
    if (fill == WRAP) before = n - 1, behind = 0;
    if (fill == CONSTANT_FILL) before = behind = -1;
    period = fill == REFLECT ? 2 * n : fill == WRAP ? n : 0;
    inverse = period > 0 ? 1 / period : real(0);
    turn = fill == REFLECT ? real(2 * n - 1) : infinity();
    low = fill == NEAREST ? 0 : -1;
    high = fill == NEAREST ? n - 1 : n;
  }

  // The pixel before y, from -1 to n - 1; y becomes the distance from it. Where y is no finite number
  // that is NaN, and the pixel is there.
  __device__ int before_and_rest(real& y) const {
    y -= period * floor(y * inverse);
    y = turn - y < y ? turn - y : y;
    y = y < low ? low : y;
    y = y > high ? high : y;
    real first = floor(y);
    first = first < n - 1 ? first : real(n - 1);
    first = first > -1 ? first : real(-1);
    y -= first;
    return int(first);
  }

  __device__ int pixel(int i) const { return i < 0 ? before : i == n ? behind : i; }
};

// The image at the point (y, x).
__device__ inline real interpolated(const real* image, const Axis& rows, const Axis& columns, real y,
                                    real x, real value) {
  const int i = rows.before_and_rest(y), j = columns.before_and_rest(x);
  const int left = columns.pixel(j), right = columns.pixel(j + 1);
  const auto along_row = [&](int row) {
    const bool inside = row >= 0;
    const real* const pixels = image + (size_t)row * columns.n;
    const real a = inside && left >= 0 ? pixels[left] : value;
    const real b = inside && right >= 0 ? pixels[right] : value;
    return a + x * (b - a);
  };
  const real above = along_row(rows.pixel(i)), below = along_row(rows.pixel(i + 1));
  return above + y * (below - above);
}

// n elements of images, `channels` of which share a matrix.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
affine_transform(const real* images, const real* matrices, real* y, real value, int fill,
                 long long n, int channels, int height, int width) {
  const Axis rows(height, fill), columns(width, fill);
  const int pixels = height * width;
  const long long stride = (long long)gridDim.x * THREADS;
  for (long long k = (long long)blockIdx.x * THREADS + threadIdx.x; k < n; k += stride) {
    const long long image = k / pixels;
    const int pixel = k - image * pixels, row = pixel / width, column = pixel - row * width;
    const real* const m = matrices + image / channels * 6;
    const real down = m[0] * row + m[1] * column + m[2];
    const real across = m[3] * row + m[4] * column + m[5];
    y[k] = interpolated(images + image * pixels, rows, columns, down, across, value);
  }
}

// rotation and shear are at most these, in half turns; (cy, cx) is the centre.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
random_affine(real* matrices, int count, real cy, real cx, real rotation, real shift, real zoom,
              real shear, unsigned seed_low, unsigned seed_high, unsigned stream, unsigned step) {
  const Draw draw = {seed_low, seed_high, stream};
  for (int image = blockIdx.x * THREADS + threadIdx.x; image < count; image += gridDim.x * THREADS) {
    const unsigned long long block = (unsigned long long)image << 32;
    const Words words = draw.block(block, step), more = draw.block(block + 1, step);
    real cosine, sine, of_cosine, of_sine;
    sincospi(rotation * symmetric(words.at[0]), &sine, &cosine);
    sincospi(shear * symmetric(more.at[0]), &of_sine, &of_cosine);
    const real slope = of_sine / of_cosine, scale = 1 / (1 + zoom * symmetric(words.at[3]));
    const real a = scale * (cosine - sine * slope), b = scale * -sine;
    const real c = scale * (sine + cosine * slope), d = scale * cosine;
    real* const m = matrices + (size_t)image * 6;
    m[0] = a, m[1] = b, m[2] = cy + shift * symmetric(words.at[1]) - a * cy - b * cx;
    m[3] = c, m[4] = d, m[5] = cx + shift * symmetric(words.at[2]) - c * cy - d * cx;
  }
}

constexpr int SHARED_FIELD = 4096;  // 16 KiB in float32

// The weighted mean of a number and those up to `reach` places of `step` before and behind it, as far
// as they are among n of which it is number k.
__device__ inline real smoothed(const real* at, int step, int k, int n, const real* weights,
                                int reach) {
  real sum = weights[0] * *at;
  for (int d = 1; d <= reach; ++d) {
    if (d <= k) sum += weights[d] * *(at - (size_t)d * step);
    if (d < n - k) sum += weights[d] * *(at + (size_t)d * step);
  }
  return sum;
}

// A block distorts one image after another. The random field, once as it is and once smoothed down
// the columns, lies in shared memory, that of a large image in the block's part of the workspace.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
elastic_transform(const real* images, const real* weights, real* workspace, real* y, real value,
                  real alpha, int reach, int fill, unsigned seed_low, unsigned seed_high,
                  unsigned stream, unsigned step, int count, int channels, int height, int width) {
  __shared__ real shared_field[SHARED_FIELD];
  const Axis rows(height, fill), columns(width, fill);
  const Draw draw = {seed_low, seed_high, stream};
  const int pixels = height * width;
  real* const field = workspace ? workspace + (size_t)blockIdx.x * 4 * pixels : shared_field;
  real* const smooth = field + 2 * (size_t)pixels;
  for (int image = blockIdx.x; image < count; image += gridDim.x) {
    for (int b = threadIdx.x; b <= (pixels - 1) / 2; b += THREADS) {
      const Words words = draw.block((unsigned long long)image << 32 | b, step);
      field[2 * b] = symmetric(words.at[0]);
      field[pixels + 2 * b] = symmetric(words.at[1]);
      if (2 * b + 1 == pixels) break;
      field[2 * b + 1] = symmetric(words.at[2]);
      field[pixels + 2 * b + 1] = symmetric(words.at[3]);
    }
    __syncthreads();
    for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS)
      for (int way = 0; way < 2; ++way) {
        const size_t k = (size_t)way * pixels + pixel;
        smooth[k] = smoothed(field + k, width, pixel / width, height, weights, reach);
      }
    __syncthreads();
    for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS) {
      const int row = pixel / width, column = pixel - row * width;
      const real dy = smoothed(smooth + pixel, 1, column, width, weights, reach);
      const real dx = smoothed(smooth + pixels + pixel, 1, column, width, weights, reach);
      const real down = row + alpha * dy, across = column + alpha * dx;
      for (int channel = 0; channel < channels; ++channel) {
        const size_t begin = ((size_t)image * channels + channel) * pixels;
        y[begin + pixel] = interpolated(images + begin, rows, columns, down, across, value);
      }
    }
  }
}
