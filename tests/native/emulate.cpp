// engine/native/kernels.cu, with a C function to run its kernels by name: the tests load it with ctypes.
#include "emulator.h"
// After the shim, which it needs.
#include "kernels.cu"

namespace {

using Run = bool (*)(void**, unsigned int, unsigned int, unsigned int, unsigned int, int);

template <auto kernel>
bool run(void** values, unsigned int grid, unsigned int block, unsigned int first, unsigned int count, int order) {
    return emulator::launch(kernel, values, grid, block, first, count, order);
}

struct Entry {
    const char* name;
    Run run;
};

#define FE_ENTRY(name) {#name, &run<&name>}
constexpr Entry kernels[] = {FE_ENTRY(fe_paint),      FE_ENTRY(fe_gather_u8), FE_ENTRY(fe_gather_f16),
                             FE_ENTRY(fe_gather_f32), FE_ENTRY(fe_find_f16),  FE_ENTRY(fe_find_f32),
                             FE_ENTRY(fe_collect),    FE_ENTRY(fe_fit),       FE_ENTRY(fe_refine_f16),
                             FE_ENTRY(fe_refine_f32)};

// Kernels that are wrong, to see that the emulator notices.
extern "C" void fe_wrong_end(int* out) {
    if (threadIdx.x % 2) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

extern "C" void fe_wrong_barriers(int* out) {
    if (threadIdx.x % 2) {
        __syncthreads();
    } else {
        out[threadIdx.x] = 1;
        __syncthreads();
    }
}

extern "C" void fe_wrong_end_of_array(int* out) {
    if (threadIdx.x < 17) out[threadIdx.x] = 1;
}

constexpr Entry wrong[] = {FE_ENTRY(fe_wrong_end), FE_ENTRY(fe_wrong_barriers), FE_ENTRY(fe_wrong_end_of_array)};

}  // namespace

// Null, or what is wrong.
extern "C" const char* emulate(const char* name, void** values, unsigned int grid, unsigned int block,
                               unsigned int first, unsigned int count, int order) {
    for (const auto& table : {std::pair(kernels, std::size(kernels)), std::pair(wrong, std::size(wrong))})
        for (std::size_t i = 0; i < table.second; ++i)
            if (std::strcmp(table.first[i].name, name) == 0)
                return table.first[i].run(values, grid, block, first, count, order) ? nullptr
                                                                                    : emulator::problem.c_str();
    return "no such kernel";
}
