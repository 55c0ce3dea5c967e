"""The threads of a CUDA block as coroutines of C++, for kernels that are compiled for the host.

A coroutine begins with a context of its own and is then switched to by jumps: `swapcontext` asks
the operating system for the mask of signals each time, which takes longer than what lies between
two barriers. It stays for the blocks that follow, so beginning costs once for each thread.

What comes before says what one thread of a block does: `static void thread()`.
"""

FLAGS = ("-U_FORTIFY_SOURCE",)
"""Checked jumps (glibc) take one to another stack for a mistake."""

BEFORE = """
#include <cstring>
#include <setjmp.h>
#include <ucontext.h>

struct Index { unsigned int x; };
static Index threadIdx, blockIdx, gridDim;

static void give_way();
"""

AFTER = """
static void thread();
static jmp_buf scheduler, places[THREADS];
static char stacks[THREADS][1 << 16];
static bool begun[THREADS];

static void give_way() { if (!_setjmp(places[threadIdx.x])) _longjmp(scheduler, 1); }

static void coroutine() {
    for (;;) {
        thread();
        give_way();
    }
}

// Run a thread until it gives way.
static void go_on(unsigned int t) {
    threadIdx.x = t;
    if (_setjmp(scheduler)) return;
    if (begun[t]) _longjmp(places[t], 1);
    begun[t] = true;
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = stacks[t];
    start.uc_stack.ss_size = sizeof stacks[t];
    makecontext(&start, coroutine, 0);
    setcontext(&start);
}

// Forget threads that wait for ever: the next block begins with new ones.
static bool stuck() {
    memset(begun, 0, sizeof begun);
    return false;
}
"""
