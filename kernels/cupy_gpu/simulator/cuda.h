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

// Calls thread(call) once for every thread; returns what went wrong, or null.
const char* run(uint3 grid, uint3 block, Order order, void (*thread)(void*), void* call);

// Whether `count` arguments have the bytes that are wanted: what is wrong, or null.
const char* check_sizes(const size_t* sizes, const size_t* wanted, int count);

void barrier(int line);
uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source);
unsigned lane();
void* shared_memory(const void* key, size_t bytes);

// The variable `key` of the block that is running. Its bits are ones at first: NaN.
template <class T> T& shared(const void* key) {
  return *static_cast<T*>(shared_memory(key, sizeof(T)));
}

// As cuLaunchKernel: arguments[k] points to the bytes of argument k. It would take them whatever
// they mean; here their number is held against the kernel's parameter.
template <class... T, size_t... K>
const char* launch(void (*kernel)(T...), std::index_sequence<K...>, const uint3* grid,
                   const uint3* block, int order, void** arguments, const size_t* sizes) {
  const size_t wanted[] = {sizeof(T)...};
  if (const char* wrong = check_sizes(sizes, wanted, sizeof...(T))) return wrong;
  struct Call {
    void (*kernel)(T...);
    void** arguments;
  } call = {kernel, arguments};
  const auto thread = [](void* given) {
    const Call& call = *static_cast<Call*>(given);
    call.kernel(*static_cast<T*>(call.arguments[K])...);
  };
  return run(*grid, *block, Order(order), thread, &call);
}

template <class... T>
const char* launch(void (*kernel)(T...), const uint3* grid, const uint3* block, int order,
                   void** arguments, const size_t* sizes) {
  return launch(kernel, std::index_sequence_for<T...>(), grid, block, order, arguments, sizes);
}

}  // namespace simulator

// The entry point launch_NAME of a kernel, for ctypes.
#define KERNEL(name)                                                                         \
  extern "C" const char* launch_##name(const uint3* grid, const uint3* block, int order,     \
                                       void** arguments, const size_t* sizes) {              \
    return simulator::launch(name, grid, block, order, arguments, sizes);                    \
  }

// A macro, so that threads which wait in different lines can be told apart.
#define __syncthreads() simulator::barrier(__LINE__)

template <class T> T __shfl_xor_sync(unsigned mask, T value, unsigned distance) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = simulator::shuffle(mask, bits, simulator::lane() ^ distance);
  memcpy(&value, &bits, sizeof value);
  return value;
}

[[noreturn]] inline void __trap() { __builtin_trap(); }

inline int atomicExch(int* address, int value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}

inline float __int_as_float(int bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
