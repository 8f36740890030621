// A fiber: code on a stack of its own, which runs until it yields and goes on where it yielded.
//
// Without a sanitizer fibers change by setjmp and longjmp, which need no system call. The
// sanitizers must be told of every change of stacks; then ucontext does it.
#pragma once
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

#if defined(SANITIZE_ADDRESS)
#include <sanitizer/common_interface_defs.h>
#elif defined(SANITIZE_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

namespace simulator {

constexpr size_t STACK = 64 << 10;

struct Fiber {
  ucontext_t context;
  jmp_buf point;
  char* stack = nullptr;
  bool begun = false;
  void* sanitizer = nullptr;  // what it keeps for this fiber
};

inline Fiber home;  // the scheduler, on the stack of its caller
#if defined(SANITIZE_ADDRESS)
inline const void* home_stack;
inline size_t home_stack_size;
#endif

// Makes the fiber, whose stack is given, begin with entry(); entry ends by leave(fiber, true).
inline void prepare(Fiber& fiber, void (*entry)()) {
  fiber.begun = false;
#if defined(SANITIZE_ADDRESS)
  fiber.sanitizer = nullptr;
#elif defined(SANITIZE_THREAD)
  if (!fiber.sanitizer) fiber.sanitizer = __tsan_create_fiber(0);  // slow, so it stays
#endif
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

// Runs the fiber until it leaves.
inline void resume(Fiber& fiber) {
#if defined(SANITIZE_ADDRESS)
  __sanitizer_start_switch_fiber(&home.sanitizer, fiber.stack, STACK);
  swapcontext(&home.context, &fiber.context);
  __sanitizer_finish_switch_fiber(home.sanitizer, nullptr, nullptr);
#elif defined(SANITIZE_THREAD)
  home.sanitizer = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.sanitizer, __tsan_switch_to_fiber_no_sync);
  swapcontext(&home.context, &fiber.context);
#else
  if (_setjmp(home.point)) return;
  if (fiber.begun) _longjmp(fiber.point, 1);
  fiber.begun = true;
  setcontext(&fiber.context);
#endif
}

// The first thing that a fiber does.
inline void arrive(Fiber& fiber) {
#if defined(SANITIZE_ADDRESS)
  __sanitizer_finish_switch_fiber(fiber.sanitizer, &home_stack, &home_stack_size);
#endif
}

// Back to the scheduler, for good where the fiber has `ended`.
inline void leave(Fiber& fiber, bool ended) {
#if defined(SANITIZE_ADDRESS)
  __sanitizer_start_switch_fiber(ended ? nullptr : &fiber.sanitizer, home_stack, home_stack_size);
  swapcontext(&fiber.context, &home.context);
  arrive(fiber);
#elif defined(SANITIZE_THREAD)
  __tsan_switch_to_fiber(home.sanitizer, __tsan_switch_to_fiber_no_sync);
  swapcontext(&fiber.context, &home.context);
#else
  if (ended || !_setjmp(fiber.point)) _longjmp(home.point, 1);
#endif
}

}  // namespace simulator
