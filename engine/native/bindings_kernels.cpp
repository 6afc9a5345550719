// Python bindings of the CPU build of the kernels: the functions that a card's threads call, called in loops.
#include <cmath>
#include <cstring>
#include <new>

#include "bindings.h"
#include "gather.h"
#include "oneshot.h"
#include "refine.h"
#include "similarity.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace fe = faceembed;
using namespace faceembed::binding;

namespace {

bool is_half(const Array& array) { return array.dtype() == nb::dtype<fe::Half>(); }

template <typename Number>
nb::object gather_as(const std::vector<fe::Image>& images, const int32_t* owner, const double* numbers, size_t count,
                     int height, int width, const fe::Normalisation& normalisation, int64_t threads) {
    const size_t values = 3 * size_t(height) * size_t(width);
    if (count > SIZE_MAX / (4 * values)) throw std::bad_alloc();
    std::unique_ptr<Number[]> out(new Number[count * values]);
    {
        nb::gil_scoped_release release;
        parallel_for(count, size_t(threads), [&](size_t face) {
            const double* m = numbers + 6 * face;
            const fe::Matrix matrix = {m[0], m[1], m[2], m[3], m[4], m[5]};
            const fe::Warp warp = fe::prepare_warp(images.data(), int(images.size()), owner[face], matrix);
            for (int y = 0; y < height; ++y) {
                for (int x = 0; x < width; ++x) {
                    unsigned char level[3];
                    fe::chip_pixel(warp, x, y, level);
                    fe::store_pixel(level, normalisation, int64_t(face), x, y, height, width, out.get());
                }
            }
        });
    }
    if constexpr (sizeof(Number) == 1)
        return owned_array(std::move(out), {count, size_t(height), size_t(width), 3});
    else
        return owned_array(std::move(out), {count, 3, size_t(height), size_t(width)});
}

nb::object gather_chips(const nb::list& images, const Array& owner, const Array& matrices, int64_t height, int64_t width,
                  const Array& mean, double scale, const std::string& colour, const std::string& dtype,
                  int64_t threads) {
    std::vector<Array> keep;
    const std::vector<fe::Image> views = as_images(images, keep);
    const double* numbers = checked<double>("matrices", matrices, {any, 2, 3});
    const size_t count = matrices.shape(0);
    const int32_t* which = checked<int32_t>("owner", owner, {int64_t(count)});
    const float* means = checked<float>("mean", mean, {3});
    check_size("height", height);
    check_size("width", width);
    check_threads(threads);
    if (colour != "rgb" && colour != "bgr")
        throw nb::value_error(("colour must be 'rgb' or 'bgr', but is '" + colour + "'").c_str());
    const fe::Normalisation n{{means[0], means[1], means[2]}, float(scale), colour == "bgr"};
    const int h = int(height), w = int(width);
    if (dtype == "float16") return gather_as<fe::Half>(views, which, numbers, count, h, w, n, threads);
    if (dtype == "float32") return gather_as<float>(views, which, numbers, count, h, w, n, threads);
    if (dtype == "uint8") return gather_as<uint8_t>(views, which, numbers, count, h, w, n, threads);
    throw nb::value_error(("dtype must be 'float16', 'float32' or 'uint8', but is '" + dtype + "'").c_str());
}

struct Faces {
    std::vector<fe::Found> found;
    std::vector<int32_t> photo;
    int64_t broken = 0;  // canvases
};

template <typename Number>
Faces find_in(const fe::Outputs<Number>& outputs, size_t canvases, const float* scales, const int32_t* owner,
              const fe::Thresholds& thresholds) {
    const int cells = fe::cell_count(outputs.height, outputs.width);
    std::vector<float> answers(size_t(cells) * fe::kAnswers);
    std::vector<int> state(2 * size_t(cells));
    std::vector<fe::Found> room(static_cast<size_t>(cells));
    Faces all;
    for (size_t canvas = 0; canvas < canvases; ++canvas) {
        fe::Alone team;
        fe::Counts counts;
        fe::find_faces(team, outputs, int(canvas), scales + 2 * canvas, thresholds,
                       {answers.data(), state.data(), cells}, room.data(), &counts);
        all.found.insert(all.found.end(), room.begin(), room.begin() + counts.faces);
        all.photo.insert(all.photo.end(), size_t(counts.faces), owner[canvas]);
        all.broken += counts.broken > 0;
    }
    return all;
}

template <typename Number>
Faces find_levels(const std::vector<Array>& levels, const float* scales, const int32_t* owner,
                  const fe::Thresholds& thresholds) {
    fe::Outputs<Number> outputs = {};
    const auto canvases = int64_t(levels[0].shape(0));
    outputs.height = int(levels[0].shape(2)) * fe::kFirstStride;
    outputs.width = int(levels[0].shape(3)) * fe::kFirstStride;
    for (int level = 0, stride = fe::kFirstStride; level < fe::kLevels; ++level, stride *= 2)
        outputs.level[level] =
            checked<Number>("levels[" + std::to_string(level) + "]", levels[level],
                            {canvases, fe::kAnswers, outputs.height / stride, outputs.width / stride});
    nb::gil_scoped_release release;
    return find_in(outputs, size_t(canvases), scales, owner, thresholds);
}

nb::tuple read_levels(const nb::list& list, const Array& scales, const Array& owner, double logit, double overlap,
                     double blend) {
    if (list.size() != fe::kLevels)
        throw nb::value_error(("levels must be 3 arrays, but are " + std::to_string(list.size())).c_str());
    std::vector<Array> levels;
    for (size_t i = 0; i < list.size(); ++i) {
        Array array;
        if (!nb::try_cast(list[i], array, false) || array.ndim() != 4)
            throw nb::type_error(("levels[" + std::to_string(i) + "] must be a NumPy array of rank 4").c_str());
        levels.push_back(std::move(array));
    }
    if (levels[0].shape(2) % 4 || levels[0].shape(3) % 4 || levels[0].shape(2) > 4096 || levels[0].shape(3) > 4096)
        throw nb::value_error("canvases must have sides that are multiples of 32, at most 32768");
    const auto canvases = int64_t(levels[0].shape(0));
    const float* scale = checked<float>("scales", scales, {canvases, 2});
    const int32_t* photo = checked<int32_t>("owner", owner, {canvases});
    const fe::Thresholds thresholds{float(logit), overlap, blend};
    const Faces all = is_half(levels[0]) ? find_levels<fe::Half>(levels, scale, photo, thresholds)
                                         : find_levels<float>(levels, scale, photo, thresholds);
    const size_t count = all.found.size();
    std::unique_ptr<int32_t[]> photos(new int32_t[count]);
    std::unique_ptr<float[]> boxes(new float[4 * count]), points(new float[10 * count]), scores(new float[count]);
    for (size_t i = 0; i < count; ++i) {
        const float* value = all.found[i].value;
        photos[i] = all.photo[i];
        scores[i] = value[0];
        std::memcpy(boxes.get() + 4 * i, value + 1, 4 * sizeof(float));
        std::memcpy(points.get() + 10 * i, value + 5, 10 * sizeof(float));
    }
    return nb::make_tuple(owned_array(std::move(photos), {count}), owned_array(std::move(boxes), {count, 4}),
                          owned_array(std::move(points), {count, 5, 2}), owned_array(std::move(scores), {count}),
                          all.broken);
}

nb::tuple refine_faces(const Array& answers, const Array& matrices, const Array& goal, const Array& scores,
                 const Array& landmarks) {
    const double* numbers = checked<double>("matrices", matrices, {any, 2, 3});
    const auto count = int64_t(matrices.shape(0));
    const double* to = checked<double>("template", goal, {fe::kPoints, 2});
    const float* score = checked<float>("scores", scores, {count});
    const float* points = checked<float>("landmarks", landmarks, {count, fe::kPoints, 2});
    const fe::Half* half = is_half(answers) ? checked<fe::Half>("answers", answers, {count, fe::kRefinements}) : nullptr;
    const float* single = half ? nullptr : checked<float>("answers", answers, {count, fe::kRefinements});
    std::unique_ptr<float[]> moved(new float[10 * size_t(count)]), lowered(new float[size_t(count)]);
    std::copy(points, points + 10 * count, moved.get());
    std::copy(score, score + count, lowered.get());
    for (int64_t i = 0; i < count; ++i) {
        const double* m = numbers + 6 * i;
        const fe::Matrix matrix = {m[0], m[1], m[2], m[3], m[4], m[5]};
        if (half)
            fe::refine_face(half + fe::kRefinements * i, matrix, to, &lowered[size_t(i)], &moved[10 * size_t(i)]);
        else
            fe::refine_face(single + fe::kRefinements * i, matrix, to, &lowered[size_t(i)], &moved[10 * size_t(i)]);
    }
    return nb::make_tuple(owned_array(std::move(lowered), {size_t(count)}),
                          owned_array(std::move(moved), {size_t(count), 5, 2}));
}

}  // namespace

void faceembed::binding::add_kernels(nb::module_& m) {
    m.def("gather", &gather_chips, "images"_a, "owner"_a, "matrices"_a, "height"_a, "width"_a, nb::kw_only(), "mean"_a,
          "scale"_a, "colour"_a = "rgb", "dtype"_a = "float16", "threads"_a = 1,
          nb::sig("def gather(images: list[NDArray[np.uint8]], owner: NDArray[np.int32], matrices: "
                  "NDArray[np.float64], height: int, width: int, *, mean: NDArray[np.float32], scale: float, colour: "
                  "str = 'rgb', dtype: str = 'float16', threads: int = 1) -> NDArray[Any]"),
          R"(Cut chips out of photos, antialiased, as a network takes them: what the CUDA kernel does, on the CPU.

The pixels are those of `warp_many` with a constant border, before they are normalised.

Args:
    images: uint8 arrays of shape (H, W, 3), each of its own size.
    owner: int32, shape (n,): the image of each chip. An index that names none gives a black chip.
    matrices: float64, shape (n, 2, 3), chip to source. One that is no similarity, or NaN, gives a black chip.
    height, width: size of a chip, pixels.
    mean, scale: float32 (3,) in the order of `colour`, and a number: a value is (level - mean) * scale.
    colour: order of the channels, "rgb" or "bgr".
    dtype: "float16" or "float32": normalised, (n, 3, height, width); "uint8": RGB levels, (n, height, width, 3).
    threads: native threads to split the chips over.

Raises:
    ValueError, TypeError: a wrong shape, layout, dtype or value.
)");

    m.def("find_faces", &read_levels, "levels"_a, "scales"_a, "owner"_a, nb::kw_only(), "logit"_a, "overlap"_a,
          "blend"_a,
          nb::sig("def find_faces(levels: list[NDArray[Any]], scales: NDArray[np.float32], owner: NDArray[np.int32], "
                  "*, logit: float, overlap: float, blend: float) -> tuple[NDArray[np.int32], NDArray[np.float32], "
                  "NDArray[np.float32], NDArray[np.float32], int]"),
          R"(Read the one-shot network's outputs: decode, suppress, average. What the CUDA kernels do, on the CPU.

Args:
    levels: three of float16 or float32, shape (n, 15, H / stride, W / stride), strides 8, 16, 32.
    scales: float32, shape (n, 2): canvas pixels per photo pixel, x and y.
    owner: int32, shape (n,): the photo of each canvas.
    logit: least score of a candidate, as a logit.
    overlap: intersection over union above which two boxes are one face.
    blend: intersection over union from which another answer is averaged into a face.

Returns:
    photo (faces,), boxes (faces, 4), landmarks (faces, 5, 2), scores (faces,), by canvas and then by falling score, in
    pixels of the photos; and how many canvases have answers that are not numbers, which are left out.

Raises:
    ValueError, TypeError: a wrong shape, layout or dtype.
)");

    m.def("refine", &refine_faces, "answers"_a, "matrices"_a, "template"_a, "scores"_a, "landmarks"_a,
          nb::sig("def refine(answers: NDArray[Any], matrices: NDArray[np.float64], template: NDArray[np.float64], "
                  "scores: NDArray[np.float32], landmarks: NDArray[np.float32]) -> tuple[NDArray[np.float32], "
                  "NDArray[np.float32]]"),
          R"(The refiner's answers, back in the photos: what the CUDA kernel does, on the CPU.

Args:
    answers: float16 or float32, shape (n, 11): a logit, and x and y of each landmark from where the template has it.
    matrices: float64, shape (n, 2, 3): crop to photo; NaN for a face without a similarity.
    template: float64, shape (5, 2).
    scores, landmarks: float32, shapes (n,) and (n, 5, 2).

Returns:
    New scores, the lower of the two, 0 without a similarity; and new landmarks, the old ones without a similarity.

Raises:
    ValueError, TypeError: a wrong shape, layout or dtype.
)");
}
