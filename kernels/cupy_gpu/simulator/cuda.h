// What the kernels use of CUDA C++, for g++: qualifiers, built-in variables and functions.
//
// The functions behave as the CUDA C++ Programming Guide states, and where it calls the outcome
// undefined they give NaN or a failure. scheduler.cpp runs the threads.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};

extern uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace simulator {

enum Order { FORWARD, REVERSED, ROTATED };

// A place in the text and the call that led there, or null: threads in different places are told
// apart and named by it. `calls` is the innermost call that the running thread is in.
struct Call {
  const char* file;
  int line;
  const Call* caller;
};
inline const Call* calls;

// In a device function whose threads may wait, or which moves pieces (build.py adds it): the call.
#if defined(SANITIZE_THREAD)  // which would see threads race for `calls`
struct Entered {
  Entered(const char*, int) {}
};
#else
struct Entered : Call {
  Entered(const char* file, int line) : Call{file, line, calls} { calls = this; }
  ~Entered() { calls = caller; }
};
#endif

// Calls thread(call) once for every thread, of at most `most` in a block; returns what went wrong,
// or null.
const char* run(uint3 grid, uint3 block, unsigned most, Order order, void (*thread)(void*),
                void* call);

// Whether `count` arguments have the bytes that are wanted: what is wrong, or null.
const char* check_sizes(const size_t* sizes, const size_t* wanted, int count);

[[noreturn]] void trap(Call place);
void barrier(Call place);
uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source, Call place);
unsigned lane();
void* shared_memory(const void* key, size_t bytes);

// The variable `key` of the block that is running, full of NaN at first.
template <class T> T& shared(const void* key) {
  return *static_cast<T*>(shared_memory(key, sizeof(T)));
}

// As cuLaunchKernel: arguments[k] points to the bytes of argument k. But CUDA takes as many of them
// as the parameter has, whatever was given.
template <class... T, size_t... K>
const char* launch_indexed(std::index_sequence<K...>, void (*kernel)(T...), unsigned most,
                           const uint3* grid, const uint3* block, int order, void** arguments,
                           const size_t* sizes) {
  const size_t wanted[] = {sizeof(T)...};
  if (const char* wrong = check_sizes(sizes, wanted, sizeof...(T))) return wrong;
  struct Launch {
    void (*kernel)(T...);
    void** arguments;
  } launch = {kernel, arguments};
  const auto thread = [](void* given) {
    const Launch& launch = *static_cast<Launch*>(given);
    launch.kernel(*static_cast<T*>(launch.arguments[K])...);
  };
  return run(*grid, *block, most, Order(order), thread, &launch);
}

template <class... T, class... Given>
const char* launch(void (*kernel)(T...), Given... given) {
  return launch_indexed(std::index_sequence_for<T...>(), kernel, given...);
}

}  // namespace simulator

// The entry point launch_NAME of a kernel with blocks of at most so many threads, for ctypes.
#define KERNEL(name, most)                                                                   \
  extern "C" const char* launch_##name(const uint3* grid, const uint3* block, int order,     \
                                       void** arguments, const size_t* sizes) {              \
    return simulator::launch(name, most, grid, block, order, arguments, sizes);              \
  }

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simulator::barrier({file, line, simulator::calls});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned distance, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  const unsigned source = simulator::lane() ^ distance;
  bits = simulator::shuffle(mask, bits, source, {file, line, simulator::calls});
  memcpy(&value, &bits, sizeof value);
  return value;
}

[[noreturn]] inline void __trap(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  simulator::trap({file, line, simulator::calls});
}

inline int atomicExch(int* address, int value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}

template <class T> T atomicAdd(T* address, T value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

inline float normcdf(float z) { return erfc(z * -M_SQRT1_2) / 2; }
inline double normcdf(double z) { return erfcl(z * -sqrtl(0.5L)) / 2; }

// sin and cos of pi x, the multiple of a quarter turn taken off exactly.
template <class T> void sincospi(T x, T* sine, T* cosine) {
  const T quarter = rint(2 * x), angle = M_PIl * (x - quarter / 2);
  const T which = quarter - 4 * floor(quarter / 4);
  T s = sin(angle), c = cos(angle);
  if (which == 1 || which == 3) {
    const T swapped = s;
    s = c, c = -swapped;
  }
  const bool half = which >= 2;
  *sine = half ? -s : s, *cosine = half ? -c : c;
}

inline int __float_as_int(float value) {
  int bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline long long __double_as_longlong(double value) {
  long long bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float __int_as_float(int bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
