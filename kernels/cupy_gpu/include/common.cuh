// What every kernel shares: the floating type, 16-byte pieces, and sums over warps and blocks.
//
// The text is plain CUDA C++: REAL is float or double (-DREAL=...), kernels are extern "C", blocks
// have THREADS threads, and loops stride over the grid: its size is a matter of speed alone.

typedef REAL real;

constexpr int THREADS = 256;
constexpr int RESIDENT = 16 / sizeof(real);  // blocks that a multiprocessor must have room for
constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;
constexpr int WIDTH = 16 / sizeof(real);  // elements of the widest load

// NVRTC has no INFINITY and no NAN.
__device__ inline real infinity() { return __int_as_float(0x7f800000); }
__device__ inline real not_a_number() { return __int_as_float(0x7fc00000); }

// A number as a type, so that a generic lambda can take it at compile time.
template <int N> struct Constant {
  static constexpr int value = N;
};

// N neighbouring elements, moved by one instruction (by more where they are more than 16 bytes).
template <int N> struct alignas(N < WIDTH ? N * sizeof(real) : 16) Piece {
  real at[N];
};

template <int N> __device__ Piece<N> load(const real* from) {
  return *reinterpret_cast<const Piece<N>*>(from);
}

template <int N> __device__ void store(real* to, const Piece<N>& piece) {
  *reinterpret_cast<Piece<N>*>(to) = piece;
}

// Whether all these arrays begin on a 16-byte border: views of arrays need not.
template <class... Pointers> __device__ bool aligned(Pointers... pointers) {
  return ((reinterpret_cast<size_t>(pointers) | ...) & 15) == 0;
}

// Calls body(Constant<N>, i) for the elements i ... i + N - 1 until all n are done: with N = WIDTH
// for as long as whole pieces last (none where the arrays are not `wide`), then with N = 1.
template <class Body> __device__ void for_each_piece(long long n, bool wide, Body body) {
  const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const long long stride = (long long)gridDim.x * blockDim.x;
  const long long pieces = wide ? n / WIDTH : 0;
  for (long long i = first; i < pieces; i += stride) body(Constant<WIDTH>(), i * WIDTH);
  for (long long i = pieces * WIDTH + first; i < n; i += stride) body(Constant<1>(), i);
}

// Over `lanes` neighbouring lanes, a power of two; all of the warp takes part, all get the result.
template <class T> __device__ T lanes_sum(T value, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(ALL, value, distance);
  return value;
}

__device__ inline real lanes_max(real value, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    value = fmax(value, __shfl_xor_sync(ALL, value, distance));
  return value;
}

// Over the whole block of full warps, the same tree at every run; every thread takes part, thread 0
// gets the sum.
template <class T> __device__ T block_sum(T value) {
  __shared__ T sums[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  value = lanes_sum(value, WARP);
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  if (warp > 0) return 0;
  return lanes_sum(lane < blockDim.x / WARP ? sums[lane] : T(0), WARP);
}
