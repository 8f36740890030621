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
  Call place;  // where it waits
  const Call* calls;
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
char* arena_next;
size_t shared_bytes;  // of the block that is running
uint32_t poison = 1;
Variable variables[MOST_VARIABLES];
unsigned variable_count;
void (*body)(void*);
void* body_call;
char message[1000];
const char* failure;
char barrier_tag[2], begin_tag, end_tag;  // by which ThreadSanitizer knows what orders threads

template <class... Values> void fail(const char* format, Values... values) {
  if (failure) return;
  snprintf(message, sizeof message, format, values...);
  failure = message;
}

void wait(State state, const Call& place) {
  current->state = state;
  current->place = place;
  leave(current->fiber, false);
}

// Ends the running thread after a failure that it cannot survive.
[[noreturn]] void stop() {
  current->state = ENDED;
  leave(current->fiber, true);
  abort();
}

bool same(const Call* a, const Call* b) {
  for (; a && b; a = a->caller, b = b->caller)
    if (a->line != b->line || strcmp(a->file, b->file)) return false;
  return a == b;
}

// How messages name a place.
struct Name {
  char text[300];

  explicit Name(const Call& place) {
    int end = snprintf(text, sizeof text, "%s:%d", place.file, place.line);
    for (const Call* at = place.caller; at && end < int(sizeof text); at = at->caller)
      end += snprintf(text + end, sizeof text - end, ", called at %s:%d", at->file, at->line);
  }
};

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
  ASAN_POISON_MEMORY_REGION(arena, ARENA);
  arena_next = arena;
  shared_bytes = 0;
  variable_count = 0;
  threads = all_threads[slot];
  for (unsigned k = 0; k < thread_count; ++k) {
    Thread& thread = threads[k];
    thread.index = {k % block.x, k / block.x % block.y, k / (block.x * block.y)};
    thread.state = READY;
    thread.number = k;
    thread.barriers = 0;
    thread.calls = nullptr;
    if (!thread.fiber.stack) thread.fiber.stack = static_cast<char*>(malloc(STACK));
    prepare(thread.fiber, run_thread);
  }
  __tsan_release(&begin_tag);
}

// Gives each lane that waits in a shuffle its value, if all that its mask names have come.
bool finish_shuffles(Thread* warp, unsigned lanes) {
  unsigned alive = 0, waiting = 0;
  for (unsigned k = 0; k < lanes; ++k) {
    if (warp[k].state != ENDED) alive |= 1u << k;
    if (warp[k].state == IN_SHUFFLE) waiting |= 1u << k;
  }
  bool any = false;
  for (unsigned first = 0; first < lanes; ++first) {
    const unsigned group = warp[first].mask & alive;
    if (!(waiting >> first & 1) || group & ~waiting) continue;
    for (unsigned k = 0; k < lanes; ++k) {
      if (!(group >> k & 1)) continue;
      const Thread &one = warp[first], &other = warp[k];
      if (!same(&one.place, &other.place))
        fail("lanes of a warp are in different shuffles: lane %u at %s, lane %u at %s", first,
             Name(one.place).text, k, Name(other.place).text);
      else if (one.mask != other.mask)
        fail("masks differ in the shuffle at %s: lane %u has %x, lane %u has %x",
             Name(one.place).text, first, one.mask, k, other.mask);
      const unsigned source = other.source;
      warp[k].taken = group >> source & 1 ? warp[source].given : ~uint64_t(0);
      warp[k].state = READY;
    }
    waiting &= ~group;
    any = true;
  }
  return any && !failure;
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
      calls = thread.calls;
      resume(thread.fiber);
      thread.calls = calls;
      any = true;
    }
  } while (finish_shuffles(warp, lanes));
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
    if (!same(&threads[k].place, &first->place))
      fail("divergent __syncthreads(): threads wait at %s and at %s", Name(first->place).text,
           Name(threads[k].place).text);
  }
  if (!waiting || waiting + ended < thread_count) return false;
  if (ended)
    fail("divergent __syncthreads() at %s: %u threads have ended", Name(first->place).text, ended);
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
  const Thread* first = nullptr;
  for (unsigned k = 0; k < thread_count && !failure; ++k) {
    if (threads[k].state == ENDED) continue;
    if (!first) first = &threads[k];
    if (!same(&threads[k].place, &first->place))
      fail("threads wait for each other: one at %s, another at %s", Name(first->place).text,
           Name(threads[k].place).text);
  }
}

}  // namespace

const char* check_sizes(const size_t* sizes, const size_t* wanted, int count) {
  failure = nullptr;
  for (int k = 0; k < count; ++k)
    if (sizes[k] != wanted[k])
      fail("argument %d has %zu bytes where its parameter has %zu", k, sizes[k], wanted[k]);
  return failure;
}

void trap(Call place) {
  fail("__trap() at %s", Name(place).text);
  stop();
}

void barrier(Call place) {
  char* tag = &barrier_tag[++current->barriers % 2];  // by turns: one may be left while the next fills
  __tsan_release(tag);
  wait(AT_BARRIER, place);
  __tsan_acquire(tag);
}

unsigned lane() { return current->number % WARP; }

uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source, Call place) {
  if (!(mask >> lane() & 1))
    fail("lane %u takes part in a shuffle that its mask excludes, at %s", lane(),
         Name(place).text);
  current->mask = mask;
  current->given = bits;
  current->source = source % WARP;
  wait(IN_SHUFFLE, place);
  return current->taken;
}

// Every word begins as a NaN of either sign does: a NaN in both precisions, a large integer. The rest
// differs from word to word, block to block and launch to launch.
void fill_with_nan(char* address, size_t bytes) {
  for (size_t k = 0; k < bytes; k += sizeof poison) {
    poison = poison * 1664525u + 1013904223u;  // the generator of Numerical Recipes
    const uint32_t word = 0x7ff80000u | (poison & 0x80000000u) | poison >> 13 & 0x7ffffu;
    memcpy(address + k, &word, sizeof word);
  }
}

void* shared_memory(const void* key, size_t bytes) {
  for (unsigned k = 0; k < variable_count; ++k)
    if (variables[k].key == key) return variables[k].address;
  char* address = arena_next;
  const size_t padded = (bytes + 15) / 16 * 16;
  arena_next += padded + GAP;
  shared_bytes += padded;
  if (shared_bytes > SHARED || variable_count == MOST_VARIABLES) {
    fail("%zu bytes of shared memory in %u variables, where %zu in %u are the most", shared_bytes,
         variable_count + 1, SHARED, MOST_VARIABLES);
    stop();
  }
  ASAN_UNPOISON_MEMORY_REGION(address, padded);
  fill_with_nan(address, padded);
  ASAN_POISON_MEMORY_REGION(address + bytes, padded - bytes);
  variables[variable_count++] = {key, address};
  return address;
}

const char* run(uint3 grid, uint3 block, unsigned most, Order order, void (*thread)(void*),
                void* call) {
  const unsigned blocks = grid.x * grid.y * grid.z;
  failure = nullptr;
  thread_count = block.x * block.y * block.z;
  if (most > MOST_THREADS) most = MOST_THREADS;
  if (!thread_count || thread_count > most)
    fail("a block of %u threads, where 1 to %u fit the kernel's launch bounds", thread_count, most);
  if (SLOTS > 1 && blocks > SLOTS) fail("the grid is too large for ThreadSanitizer");
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

#if !defined(SANITIZE_ADDRESS)
// What g++ has -fsanitize=alignment call, in place of UBSan's own library (the struct begins as in
// ubsan_handlers.h of LLVM's compiler-rt): an address is no multiple of what its type needs.
struct Mismatch {
  const char* file;
  unsigned line, column;
  const void* type;
  unsigned char log_alignment;
};

extern "C" [[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(Mismatch* found, void* address) {
  const Call place = {found->file, int(found->line), calls};
  fail("misaligned address %p at %s: it must be a multiple of %d", address, Name(place).text,
       1 << found->log_alignment);
  stop();
}
#endif

}  // namespace simulator
