// The threads of a block as fibers of one operating-system thread; one block runs after another.
//
// A thread runs until it waits at a barrier or in a shuffle, or ends. A warp goes as far as it can
// before the next one runs, so that warps drift as far apart as the barriers allow. This file is
// never compiled with -fsanitize=thread: what it does to the threads' memory is no part of the
// program. ThreadSanitizer learns here which threads wait for which: barriers order the threads of
// a block, shuffles order nothing but the values they carry, and nothing orders blocks.
#include "cuda.h"
#include "fiber.h"

#include <stdio.h>

#if defined(SANITIZE_ADDRESS)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif
#if !defined(SANITIZE_THREAD)
#define __tsan_acquire(tag)
#define __tsan_release(tag)
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace simulator {
namespace {

constexpr unsigned WARP = 32, MOST_THREADS = 1024, MOST_VARIABLES = 32;
constexpr size_t GAP = 64;  // between shared variables, watched by AddressSanitizer
constexpr size_t SHARED = 48 << 10, ARENA = SHARED + MOST_VARIABLES * GAP;
#if defined(SANITIZE_THREAD)
// Every block of a launch has fibers and memory of its own: if it took over those of the block
// before, its accesses would look like races, or hide one.
constexpr unsigned SLOTS = 24;  // ThreadSanitizer knows at most 8128 fibers
#else
constexpr unsigned SLOTS = 1;
#endif

enum State { READY, IN_SHUFFLE, AT_BARRIER, ENDED };

struct Thread {
  Fiber fiber;
  uint3 index;
  State state;
  unsigned number, mask, source, barriers;
  int line;  // of the barrier where it waits
  uint64_t given, taken;  // in a shuffle
};

struct Variable {
  const void* key;
  char* address;
};

Thread all_threads[SLOTS][MOST_THREADS];
char* arenas[SLOTS];
Thread* threads;  // of the block that is running
unsigned thread_count;
Thread* current;
char *arena_next, *arena_end;
Variable variables[MOST_VARIABLES];
unsigned variable_count;
void (*body)(void*);
void* body_call;
char message[200];
const char* failure;
char barrier_tag[2], begin_tag, end_tag;  // by which ThreadSanitizer knows what orders threads

template <class... Values> void fail(const char* format, Values... values) {
  if (failure) return;
  snprintf(message, sizeof message, format, values...);
  failure = message;
}

void wait(State state) {
  current->state = state;
  leave(current->fiber, false);
}

void run_thread() {
  arrive(current->fiber);
  __tsan_acquire(&begin_tag);
  body(body_call);
  __tsan_release(&end_tag);
  current->state = ENDED;
  leave(current->fiber, true);
}

void begin_block(unsigned slot, uint3 block) {
  char*& arena = arenas[slot];
  if (!arena) arena = static_cast<char*>(malloc(ARENA));
  ASAN_UNPOISON_MEMORY_REGION(arena, ARENA);
  memset(arena, 0xff, ARENA);
  ASAN_POISON_MEMORY_REGION(arena, ARENA);
  arena_next = arena;
  arena_end = arena + ARENA;
  variable_count = 0;
  threads = all_threads[slot];
  for (unsigned k = 0; k < thread_count; ++k) {
    Thread& thread = threads[k];
    thread.index = {k % block.x, k / block.x % block.y, k / (block.x * block.y)};
    thread.state = READY;
    thread.number = k;
    thread.barriers = 0;
    if (!thread.fiber.stack) thread.fiber.stack = static_cast<char*>(malloc(STACK));
    prepare(thread.fiber, run_thread);
  }
  __tsan_release(&begin_tag);
}

// Gives each lane that waits in a shuffle its value, if all that the shuffle needs have come.
bool finish_shuffle(Thread* warp, unsigned lanes) {
  unsigned alive = 0, waiting = 0, wanted = 0;
  for (unsigned k = 0; k < lanes; ++k) {
    if (warp[k].state != ENDED) alive |= 1u << k;
    if (warp[k].state == IN_SHUFFLE) waiting |= 1u << k, wanted |= warp[k].mask;
  }
  if (!waiting || (wanted & alive) != waiting) return false;
  for (unsigned k = 0; k < lanes; ++k) {
    if (!(waiting >> k & 1)) continue;
    const unsigned source = warp[k].source;
    warp[k].taken = waiting >> source & 1 ? warp[source].given : ~uint64_t(0);
    warp[k].state = READY;
  }
  return true;
}

unsigned position(unsigned k, unsigned count, Order order, unsigned turn) {
  return order == REVERSED ? count - 1 - k : order == ROTATED ? (k + turn) % count : k;
}

// Runs a warp until all its threads wait at a barrier or have ended; whether any could run.
bool run_warp(Thread* warp, unsigned lanes, Order order, unsigned turn) {
  bool any = false;
  do {
    for (unsigned k = 0; k < lanes; ++k) {
      Thread& thread = warp[position(k, lanes, order, turn)];
      if (thread.state != READY) continue;
      current = &thread;
      threadIdx = thread.index;
      resume(thread.fiber);
      any = true;
    }
  } while (finish_shuffle(warp, lanes));
  return any;
}

// Whether the block's threads may pass the barrier: all are there, and at the same one.
bool pass_barrier() {
  unsigned waiting = 0, ended = 0;
  const Thread* first = nullptr;
  for (unsigned k = 0; k < thread_count; ++k) {
    ended += threads[k].state == ENDED;
    if (threads[k].state != AT_BARRIER) continue;
    ++waiting;
    if (!first) first = &threads[k];
    if (threads[k].line != first->line)
      fail("divergent __syncthreads(): threads wait in line %d and in line %d", first->line,
           threads[k].line);
  }
  if (!waiting || waiting + ended < thread_count) return false;
  if (ended) fail("divergent __syncthreads() in line %d: %d threads have ended", first->line, ended);
  for (unsigned k = 0; k < thread_count; ++k) threads[k].state = READY;
  return true;
}

void run_block(Order order, unsigned& turn) {
  const unsigned warps = (thread_count + WARP - 1) / WARP;
  bool any = true;
  while (any && !failure) {
    turn = turn * 1664525u + 1013904223u;  // the generator of Numerical Recipes
    any = false;
    for (unsigned k = 0; k < warps; ++k) {
      const unsigned first = position(k, warps, order, turn >> 8) * WARP, left = thread_count - first;
      any |= run_warp(threads + first, left < WARP ? left : WARP, order, turn >> 16);
    }
    any |= pass_barrier();
  }
  for (unsigned k = 0; k < thread_count; ++k)
    if (threads[k].state != ENDED)
      fail("threads wait for each other at a divergent __syncthreads() or shuffle");
}

}  // namespace

const char* check_sizes(const size_t* sizes, const size_t* wanted, int count) {
  failure = nullptr;
  for (int k = 0; k < count; ++k)
    if (sizes[k] != wanted[k])
      fail("argument %d has %zu bytes where its parameter has %zu", k, sizes[k], wanted[k]);
  return failure;
}

void barrier(int line) {
  char* tag = &barrier_tag[++current->barriers % 2];  // by turns: one may be left while the next fills
  __tsan_release(tag);
  current->line = line;
  wait(AT_BARRIER);
  __tsan_acquire(tag);
}

unsigned lane() { return current->number % WARP; }

uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source) {
  if (!(mask >> lane() & 1)) fail("lane %d takes part in a shuffle that its mask excludes", lane());
  current->mask = mask;
  current->given = bits;
  current->source = source % WARP;
  wait(IN_SHUFFLE);
  return current->taken;
}

void* shared_memory(const void* key, size_t bytes) {
  for (unsigned k = 0; k < variable_count; ++k)
    if (variables[k].key == key) return variables[k].address;
  char* address = arena_next;
  arena_next += (bytes + 15) / 16 * 16 + GAP;
  if (variable_count == MOST_VARIABLES || arena_next > arena_end) {
    fputs("simulator: more shared variables than 48 KiB or 32 in number\n", stderr);
    abort();
  }
  ASAN_UNPOISON_MEMORY_REGION(address, bytes);
  variables[variable_count++] = {key, address};
  return address;
}

const char* run(uint3 grid, uint3 block, Order order, void (*thread)(void*), void* call) {
  const unsigned blocks = grid.x * grid.y * grid.z;
  failure = nullptr;
  thread_count = block.x * block.y * block.z;
  if (!thread_count || thread_count > MOST_THREADS) return "a block must have 1 to 1024 threads";
  if (SLOTS > 1 && blocks > SLOTS) return "the grid is too large for ThreadSanitizer";
  gridDim = grid;
  blockDim = block;
  body = thread;
  body_call = call;
#if defined(__SSE__)
  const unsigned mode = _mm_getcsr();
  if (sizeof(REAL) == sizeof(float)) _mm_setcsr(mode | 0x8040);  // as -ftz=true: subnormals are 0
#endif
  unsigned turn = 1;
  for (unsigned k = 0; k < blocks && !failure; ++k) {
    const unsigned b = order == REVERSED ? blocks - 1 - k : k;
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
    begin_block(k % SLOTS, block);
    run_block(order, turn);
  }
#if defined(__SSE__)
  _mm_setcsr(mode);
#endif
  __tsan_acquire(&end_tag);
  return failure;
}

}  // namespace simulator
