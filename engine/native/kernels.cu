// The kernels: which thread does what. What is done is in the headers, which the CPU module compiles too.
//
// engine/pipeline/gpu/compiler.py has NVRTC compile this file for the user's own card; CMake has nvcc compile it where there is
// one; the tests compile it as C++ and run all its threads on the CPU.
//
// Pictures: one thread a pixel, in tiles of 16 x 16, all tiles of a face one after another in a grid of one dimension,
// the only one that may hold more than 65,535 blocks. Lists: one thread an item.
#include "gather.h"
#include "oneshot.h"
#include "refine.h"

namespace faceembed {

constexpr int kTile = 16, kBlock = kTile * kTile;

struct Tile {
    long long item;
    int x, y;
};

__device__ __forceinline__ Tile find_tile(int height, int width) {
    const int across = (width + kTile - 1) / kTile, down = (height + kTile - 1) / kTile;
    const int tile = static_cast<int>(blockIdx.x % (static_cast<unsigned int>(across) * down));
    return {static_cast<long long>(blockIdx.x / (static_cast<unsigned int>(across) * down)),
            tile % across * kTile + static_cast<int>(threadIdx.x % kTile),
            tile / across * kTile + static_cast<int>(threadIdx.x / kTile)};
}

__device__ __forceinline__ long long item_of_thread() {
    return static_cast<long long>(blockIdx.x) * kBlock + threadIdx.x;
}

template <typename Number>
__device__ __forceinline__ void gather(const Image* images, int image_count, const int* image_of,
                                       const Matrix* matrices, int height, int width, const Normalisation& n,
                                       Number* out, Warp& warp) {
    const Tile tile = find_tile(height, width);
    if (threadIdx.x == 0) warp = prepare_warp(images, image_count, image_of[tile.item], matrices[tile.item]);
    __syncthreads();
    if (tile.x >= width || tile.y >= height) return;
    unsigned char level[3];
    chip_pixel(warp, tile.x, tile.y, level);
    store_pixel(level, n, tile.item, tile.x, tile.y, height, width, out);
}

// The threads of a block as a team. `shared`: kBlock numbers of each kind that all of them see.
struct BlockTeam {
    int* number;
    float* score;

    __device__ __forceinline__ int rank() const { return static_cast<int>(threadIdx.x); }
    __device__ __forceinline__ int size() const { return kBlock; }

    __device__ __forceinline__ int count_before(bool yes, int* total) const {
        *total = __syncthreads_count(yes);
        if (*total == 0) return 0;  // the same for all threads; most cells see no face
        number[rank()] = yes;
        __syncthreads();
        for (int step = 1; step < kBlock; step *= 2) {
            const int before = rank() >= step ? number[rank() - step] : 0;
            __syncthreads();
            number[rank()] += before;
            __syncthreads();
        }
        return number[rank()] - yes;
    }

    __device__ __forceinline__ Best best(const Best& mine) const {
        __syncthreads();  // nobody still reads what was the best before
        score[rank()] = mine.score;
        number[rank()] = mine.index;
        __syncthreads();
        for (int step = kBlock / 2; step > 0; step /= 2) {
            if (rank() < step) {
                const Best other = {score[rank() + step], number[rank() + step]};
                if (is_better(other, {score[rank()], number[rank()]})) {
                    score[rank()] = other.score;
                    number[rank()] = other.index;
                }
            }
            __syncthreads();
        }
        return {score[0], number[0]};
    }
};

template <typename Number>
__device__ __forceinline__ void find(const Number* level_8, const Number* level_16, const Number* level_32, int height,
                                     int width, const float* scales, const Thresholds& thresholds, float* answers,
                                     int* state, Found* found, Counts* counts, int* number, float* score) {
    const int canvas = static_cast<int>(blockIdx.x), cells = cell_count(height, width);
    const Outputs<Number> outputs = {{level_8, level_16, level_32}, height, width};
    const long long first = static_cast<long long>(canvas) * cells;
    const Scratch scratch = {answers + kAnswers * first, state + 2 * first, cells};
    BlockTeam team = {number, score};
    find_faces(team, outputs, canvas, scales + 2 * canvas, thresholds, scratch, found + first, counts + canvas);
}

}  // namespace faceembed

using namespace faceembed;

// engine/pipeline/gpu/kernels.py lays these out with NumPy.
static_assert(sizeof(Image) == 24 && sizeof(Matrix) == 48 && sizeof(Copy) == 12, "as NumPy has them");
static_assert(sizeof(Found) == 4 * kAnswers && sizeof(Counts) == 8 && sizeof(Half) == 2, "as NumPy has them");

// Two blocks of a multiprocessor at least. Without that, ptxas guesses, and spilled registers of one kernel on sm_80.
#define FE_KERNEL extern "C" __global__ void __launch_bounds__(256, 2)

// Photos, resized, in the corners of canvases (canvases, height, width, 3).
FE_KERNEL fe_paint(const Image* images, int image_count, const Copy* copies, int height, int width, int grey,
                   unsigned char* out) {
    const Tile tile = find_tile(height, width);
    if (tile.x >= width || tile.y >= height) return;
    unsigned char level[3];
    canvas_pixel(images, image_count, copies[tile.item], static_cast<unsigned char>(grey), tile.x, tile.y, level);
    store_pixel(level, Normalisation(), tile.item, tile.x, tile.y, height, width, out);
}

// Chips out of photos, uint8 (faces, height, width, 3), or float16 or float32 (faces, 3, height, width).
#define FE_GATHER(name, Number)                                                                                       \
    FE_KERNEL name(const Image* images, int image_count, const int* image_of, const Matrix* matrices, int height,     \
                   int width, float mean_0, float mean_1, float mean_2, float scale, int bgr, Number* out) {          \
        __shared__ Warp warp;                                                                                         \
        gather(images, image_count, image_of, matrices, height, width, {{mean_0, mean_1, mean_2}, scale, bgr != 0},   \
               out, warp);                                                                                            \
    }

FE_GATHER(fe_gather_u8, unsigned char)
FE_GATHER(fe_gather_f16, Half)
FE_GATHER(fe_gather_f32, float)

// The faces of each canvas: one block a canvas. `found` has room for a face a cell.
#define FE_FIND(name, Number)                                                                                         \
    FE_KERNEL name(const Number* level_8, const Number* level_16, const Number* level_32, int height, int width,      \
                   const float* scales, float logit, double overlap, double blend, float* answers, int* state,        \
                   Found* found, Counts* counts) {                                                                    \
        __shared__ int number[kBlock];                                                                                \
        __shared__ float score[kBlock];                                                                               \
        find(level_8, level_16, level_32, height, width, scales, {logit, overlap, blend}, answers, state, found,      \
             counts, number, score);                                                                                  \
    }

FE_FIND(fe_find_f16, Half)
FE_FIND(fe_find_f32, float)

// The faces of a scan's canvases, in a list of all scans: one block a canvas. `counts` is of all scans, and this one's begin at
// `canvas_before`; what the list has no room for is left out, and shows in the counts.
FE_KERNEL fe_collect(const Found* found, const Counts* counts, int canvas_before, const int* owner, int cells, int room,
                     int* photo, float* boxes, float* landmarks, float* scores) {
    const int canvas = static_cast<int>(blockIdx.x);
    const Counts* mine = counts + canvas_before + canvas;
    long long first = 0;
    for (const Counts* before = counts; before < mine; ++before) first += before->faces;
    for (int k = static_cast<int>(threadIdx.x); k < mine->faces; k += kBlock) {
        const float* value = found[static_cast<long long>(canvas) * cells + k].value;
        const long long to = first + k;
        if (to >= room) return;
        photo[to] = owner[canvas];
        scores[to] = value[0];
        for (int i = 0; i < 4; ++i) boxes[4 * to + i] = value[1 + i];
        for (int i = 0; i < 2 * kPoints; ++i) landmarks[2 * kPoints * to + i] = value[5 + i];
    }
}

// The matrix of each face: template to photo, for the gathering above.
FE_KERNEL fe_fit(const float* landmarks, const double* goal, int faces, Matrix* matrices) {
    const long long face = item_of_thread();
    if (face < faces) matrices[face] = fit_face(landmarks + 2 * kPoints * face, goal);
}

// The refiner's answers (faces, 11), back in the photos.
#define FE_REFINE(name, Number)                                                                                       \
    FE_KERNEL name(const Number* answers, const Matrix* matrices, const double* goal, int faces, float* scores,       \
                   float* landmarks) {                                                                                \
        const long long face = item_of_thread();                                                                      \
        if (face < faces)                                                                                             \
            refine_face(answers + kRefinements * face, matrices[face], goal, scores + face,                           \
                        landmarks + 2 * kPoints * face);                                                              \
    }

FE_REFINE(fe_refine_f16, Half)
FE_REFINE(fe_refine_f32, float)
