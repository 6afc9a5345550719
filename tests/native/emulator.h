// A card made of one CPU thread: enough of CUDA's C++ to compile kernels.cu as it stands and run every thread of every
// block. Each of a block's threads is a fibre with its own stack, so that barriers work; they run in an order that the
// caller chooses, so that a missing barrier shows as a result that depends on it. A fibre lives on for the next block, and
// changes place by _setjmp, which, unlike swapcontext, asks nothing of the kernel.
//
// It reports what a card would leave undefined: threads of a block that wait at different barriers, or that end while
// others wait. Shared memory is filled with 0xFF, which is NaN and -1, before every block.
#pragma once

#undef _FORTIFY_SOURCE  // its longjmp refuses to go to another stack
#include <setjmp.h>
#include <ucontext.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("fe_shared")))
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncthreads_count(yes) emulator::barrier_count(__LINE__, yes)

extern "C" char __start_fe_shared[], __stop_fe_shared[];  // the linker's

namespace emulator {

struct Index {
    unsigned int x;
};

inline Index thread_index, block_index, block_size, grid_size;

struct Fibre {
    jmp_buf place;  // where it goes on
    std::vector<char> stack = std::vector<char>(64 << 10);
    bool started = false;
    bool done;
    int waits_at;  // the line of its barrier, 0 for none
};

inline std::vector<Fibre> fibres;
inline jmp_buf scheduler;
inline std::function<void()> body;
inline int yes_count, yes_total;
inline std::string problem;

inline Fibre& current() { return fibres[thread_index.x]; }

// Back to the scheduler; it returns when the fibre is resumed.
inline void leave() {
    if (_setjmp(current().place) == 0) _longjmp(scheduler, 1);
}

inline void barrier(int line) {
    current().waits_at = line;
    leave();
}

inline int barrier_count(int line, bool yes) {
    yes_count += yes;
    barrier(line);
    return yes_total;
}

[[noreturn]] inline void enter() {
    for (;;) {
        body();
        current().done = true;
        leave();
    }
}

// Run a fibre until it leaves.
__attribute__((noinline)) inline void resume(Fibre& fibre) {
    if (_setjmp(scheduler) != 0) return;
    if (fibre.started) _longjmp(fibre.place, 1);
    fibre.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fibre.stack.data();
    context.uc_stack.ss_size = fibre.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, reinterpret_cast<void (*)()>(&enter), 0);
    setcontext(&context);
}

// Thread `turn` of n: forwards, backwards, or every seventh.
inline unsigned int in_order(int order, unsigned int turn, unsigned int n) {
    return order == 0 ? turn : order == 1 ? n - 1 - turn : static_cast<unsigned int>(turn * 7ull % n);
}

// Run one block until all its threads are done. False: see `problem`.
inline bool run_block(int order) {
    std::memset(__start_fe_shared, 0xff, static_cast<std::size_t>(__stop_fe_shared - __start_fe_shared));
    for (Fibre& fibre : fibres) fibre.done = false;
    for (bool running = true; running;) {
        running = false;
        yes_count = 0;
        int line = 0, waiting = 0, done = 0;
        for (unsigned int turn = 0; turn < fibres.size(); ++turn) {
            thread_index.x = in_order(order, turn, static_cast<unsigned int>(fibres.size()));
            Fibre& fibre = current();
            if (!fibre.done) {
                fibre.waits_at = 0;
                resume(fibre);
            }
            if (fibre.done) {
                ++done;
                continue;
            }
            if (waiting++ && fibre.waits_at != line) {
                problem = "threads of a block wait at lines " + std::to_string(line) + " and " +
                          std::to_string(fibre.waits_at);
                return false;
            }
            line = fibre.waits_at;
            running = true;
        }
        if (waiting && done) {
            problem = std::to_string(done) + " threads ended while " + std::to_string(waiting) + " wait at line " +
                      std::to_string(line);
            return false;
        }
        yes_total = yes_count;
    }
    return true;
}

template <typename... Arguments, std::size_t... position>
void call(void (*kernel)(Arguments...), void** values, std::index_sequence<position...>) {
    kernel(*static_cast<Arguments*>(values[position])...);
}

// Call `kernel` in every thread of blocks [first, first + count) of a grid. `values` points at its arguments.
template <typename... Arguments>
bool launch(void (*kernel)(Arguments...), void** values, unsigned int grid, unsigned int block, unsigned int first,
            unsigned int count, int order) {
    body = [=] { call(kernel, values, std::index_sequence_for<Arguments...>()); };
    grid_size.x = grid;
    block_size.x = block;
    fibres.resize(block);
    for (unsigned int turn = 0; turn < count; ++turn) {
        block_index.x = first + in_order(order == 1 ? 1 : 0, turn, count);
        if (!run_block(order)) {
            fibres.clear();  // some are in the midst of it
            return false;
        }
    }
    return true;
}

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
