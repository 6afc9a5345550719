// Python bindings: convert, check, release the GIL, call. The kernels are in the headers beside this file.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "nms.h"
#include "similarity.h"
#include "warp_host.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace fe = faceembed;

namespace {

using Array = nb::ndarray<nb::ro, nb::device::cpu>;  // any dtype and shape: the checks below say what is wrong with it
using WritableArray = nb::ndarray<nb::device::cpu>;

constexpr int64_t kMaxSide = int64_t{1} << 24;  // pixel indices stay exact in float32 and 3 * width in 32 bits
constexpr int64_t any = -1;                     // in an expected shape: any length

std::string dtype_name(nb::dlpack::dtype dtype) {
    const char* kind = dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Int)     ? "int"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::UInt)  ? "uint"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Float) ? "float"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bool)  ? "bool"
                                                                                           : "other";
    return kind + std::to_string(dtype.bits);
}

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); ++i)
        text += (i ? ", " : "") + (shape[i] == any ? std::string("any") : std::to_string(shape[i]));
    return text + (shape.size() == 1 ? ",)" : ")");
}

template <typename T, typename A>
void check(const std::string& name, const A& array, std::vector<int64_t> expected) {
    std::vector<int64_t> actual;
    for (size_t i = 0; i < array.ndim(); ++i) actual.push_back(static_cast<int64_t>(array.shape(i)));
    bool fits = actual.size() == expected.size();
    for (size_t i = 0; fits && i < actual.size(); ++i) fits = expected[i] == any || expected[i] == actual[i];
    if (array.dtype() != nb::dtype<T>()) {
        throw nb::type_error(
            (name + " must be " + dtype_name(nb::dtype<T>()) + ", but its dtype is " + dtype_name(array.dtype()))
                .c_str());
    }
    if (!fits)
        throw nb::value_error(
            (name + " must have shape " + shape_text(expected) + ", but its shape is " + shape_text(actual)).c_str());
}

// Are dimensions `from` .. last packed without gaps? Lengths of 0 and 1 need no stride.
template <typename A>
bool is_packed(const A& array, size_t from = 0) {
    int64_t stride = 1;
    for (size_t i = array.ndim(); i-- > from;) {
        if (array.shape(i) > 1 && array.stride(i) != stride) return false;
        stride *= static_cast<int64_t>(array.shape(i));
    }
    return true;
}

template <typename T>
const T* checked(const std::string& name, const Array& array, std::vector<int64_t> expected) {
    check<T>(name, array, std::move(expected));
    if (array.size() && !is_packed(array))
        throw nb::value_error((name + " must be C-contiguous: pass np.ascontiguousarray(" + name + ")").c_str());
    return static_cast<const T*>(array.data());
}

// Rows of packed RGB; the rows themselves may lie apart, so a crop `image[a:b, c:d]` needs no copy.
template <typename A>
void check_pixels(const std::string& name, const A& array) {
    check<uint8_t>(name, array, {any, any, 3});
    const auto height = static_cast<int64_t>(array.shape(0)), width = static_cast<int64_t>(array.shape(1));
    if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide)
        throw nb::value_error(
            (name + " must have 1 to 16777216 rows and columns, but its shape is " + shape_text({height, width, 3}))
                .c_str());
    if (!is_packed(array, 1) || (height > 1 && array.stride(0) < 3 * width))
        throw nb::value_error((name + " must have packed RGB rows: pass np.ascontiguousarray(" + name + ")").c_str());
}

long long row_stride(int64_t height, int64_t width, int64_t stride) { return height > 1 ? stride : 3 * width; }

fe::Image as_image(const std::string& name, const Array& array) {
    check_pixels(name, array);
    return {static_cast<const unsigned char*>(array.data()), static_cast<int>(array.shape(0)),
            static_cast<int>(array.shape(1)), row_stride(array.shape(0), array.shape(1), array.stride(0))};
}

void check_size(const char* name, int64_t value) {
    if (value < 1 || value > kMaxSide)
        throw nb::value_error((std::string(name) + " must be 1 to 16777216, but is " + std::to_string(value)).c_str());
}

fe::Border as_border(const std::string& border) {
    if (border == "constant") return fe::Border::constant;
    if (border == "replicate") return fe::Border::replicate;
    throw nb::value_error(("border must be 'constant' or 'replicate', but is '" + border + "'").c_str());
}

fe::Overlap as_overlap(const std::string& mode) {
    if (mode == "union") return fe::Overlap::over_union;
    if (mode == "min") return fe::Overlap::over_smaller;
    throw nb::value_error(("mode must be 'union' or 'min', but is '" + mode + "'").c_str());
}

std::string matrix_text(const fe::Matrix& m) {
    std::string text = "[[";
    const double values[6] = {m.a, m.b, m.tx, m.c, m.d, m.ty};
    for (int i = 0; i < 6; ++i) {
        char number[32];
        std::snprintf(number, sizeof number, "%.6g", values[i]);
        text += (i == 0 ? "" : i == 3 ? "], [" : ", ") + std::string(number);
    }
    return text + "]]";
}

std::vector<fe::Matrix> as_matrices(const Array& array) {
    const double* values = checked<double>("matrices", array, {any, 2, 3});
    std::vector<fe::Matrix> matrices(array.shape(0));
    for (size_t i = 0; i < matrices.size(); ++i) {
        const double* m = values + 6 * i;
        matrices[i] = {m[0], m[1], m[2], m[3], m[4], m[5]};
        const char* wrong = nullptr;
        switch (fe::check_matrix(matrices[i])) {
            case fe::MatrixCheck::ok: break;
            case fe::MatrixCheck::not_finite: wrong = "must be finite"; break;
            case fe::MatrixCheck::not_similarity:
                wrong = "must be a similarity (rotation, one scale, mirroring; relative tolerance 1e-6)";
                break;
            case fe::MatrixCheck::zero_scale: wrong = "must have a scale above 1e-12"; break;
            case fe::MatrixCheck::too_large:
                wrong = "must have a scale of at most 1e6 source pixels per output pixel";
                break;
        }
        if (wrong)
            throw nb::value_error(
                ("matrices[" + std::to_string(i) + "] " + wrong + ", but is " + matrix_text(matrices[i])).c_str());
    }
    return matrices;
}

template <typename T>
nb::object owned_array(std::unique_ptr<T[]> data, std::initializer_list<size_t> shape) {
    T* values = data.get();
    nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    data.release();
    return nb::cast(nb::ndarray<nb::numpy, T>(values, shape.size(), shape.begin(), owner));
}

// Call work(i) for i in [0, count), split over `threads` in contiguous runs: the outputs are the same for any number.
template <typename Work>
void parallel_for(size_t count, size_t threads, const Work& work) {
    threads = std::min(threads, count);
    if (threads <= 1) {
        for (size_t i = 0; i < count; ++i) work(i);
        return;
    }
    std::vector<std::exception_ptr> errors(threads);
    std::vector<std::thread> pool;
    const auto run = [&](size_t t) {
        try {
            for (size_t i = count * t / threads; i < count * (t + 1) / threads; ++i) work(i);
        } catch (...) {
            errors[t] = std::current_exception();
        }
    };
    for (size_t t = 1; t < threads; ++t) {
        try {
            pool.emplace_back(run, t);
        } catch (const std::system_error&) {  // the system has no more threads: do that part here
            run(t);
        }
    }
    run(0);
    for (auto& thread : pool) thread.join();
    for (const auto& error : errors)
        if (error) std::rethrow_exception(error);
}

nb::object warp_batch(const std::vector<fe::Image>& images, const int32_t* image_of,
                      const std::vector<fe::Matrix>& matrices, int64_t height, int64_t width, fe::Border border,
                      int64_t threads) {
    check_size("height", height);
    check_size("width", width);
    if (threads < 1) throw nb::value_error(("threads must be at least 1, but is " + std::to_string(threads)).c_str());
    const size_t count = matrices.size(), bytes = 3 * size_t(height) * size_t(width);
    if (count > SIZE_MAX / bytes) throw std::bad_alloc();
    std::unique_ptr<uint8_t[]> out(new uint8_t[count * bytes]);
    {
        nb::gil_scoped_release release;
        parallel_for(count, size_t(threads), [&](size_t i) {
            const fe::Canvas canvas{out.get() + i * bytes, int(height), int(width), 3 * width};
            fe::warp(images[image_of ? image_of[i] : 0], matrices[i], border, canvas);
        });
    }
    return owned_array(std::move(out), {count, size_t(height), size_t(width), 3});
}

nb::object warp(const Array& image, const Array& matrices, int64_t height, int64_t width, const std::string& border,
                int64_t threads) {
    return warp_batch({as_image("image", image)}, nullptr, as_matrices(matrices), height, width, as_border(border),
                      threads);
}

nb::object warp_many(const nb::list& images, const Array& image_of, const Array& matrices, int64_t height,
                     int64_t width, const std::string& border, int64_t threads) {
    std::vector<Array> keep;  // holds the buffers while the GIL is released: another thread may empty the list
    std::vector<fe::Image> views;
    for (size_t i = 0; i < images.size(); ++i) {
        const std::string name = "images[" + std::to_string(i) + "]";
        Array array;
        if (!nb::try_cast(images[i], array, false)) throw nb::type_error((name + " must be a NumPy array").c_str());
        views.push_back(as_image(name, array));
        keep.push_back(std::move(array));
    }
    const std::vector<fe::Matrix> maps = as_matrices(matrices);
    const int32_t* which = checked<int32_t>("image_of", image_of, {int64_t(maps.size())});
    for (size_t i = 0; i < maps.size(); ++i)
        if (which[i] < 0 || size_t(which[i]) >= views.size())
            throw nb::value_error(("image_of[" + std::to_string(i) + "] must be 0 to " +
                                   std::to_string(int64_t(views.size()) - 1) + " (" + std::to_string(views.size()) +
                                   " images), but is " + std::to_string(which[i]))
                                      .c_str());
    return warp_batch(views, which, maps, height, width, as_border(border), threads);
}

nb::object resize(const Array& image, int64_t height, int64_t width) {
    const fe::Image view = as_image("image", image);
    check_size("height", height);
    check_size("width", width);
    std::unique_ptr<uint8_t[]> out(new uint8_t[3 * size_t(height) * size_t(width)]);
    {
        nb::gil_scoped_release release;
        fe::resize(view, {out.get(), int(height), int(width), 3 * width});
    }
    return owned_array(std::move(out), {size_t(height), size_t(width), 3});
}

void resize_into(const Array& image, const WritableArray& canvas, int64_t y, int64_t x, int64_t height, int64_t width) {
    const fe::Image view = as_image("image", image);
    check_pixels("canvas", canvas);
    check_size("height", height);
    check_size("width", width);
    const auto rows = int64_t(canvas.shape(0)), columns = int64_t(canvas.shape(1));
    if (y < 0 || x < 0 || y > rows - height || x > columns - width)
        throw nb::value_error(("the rectangle y=" + std::to_string(y) + " x=" + std::to_string(x) +
                               " height=" + std::to_string(height) + " width=" + std::to_string(width) +
                               " must lie inside the canvas of shape " + shape_text({rows, columns, 3}))
                                  .c_str());
    const long long stride = row_stride(rows, columns, canvas.stride(0));
    auto* first = static_cast<unsigned char*>(canvas.data()) + y * stride + 3 * x;
    const unsigned char* last = first + (height - 1) * stride + 3 * width;
    if (first < view.data + (view.height - 1) * view.stride + 3LL * view.width && view.data < last)
        throw nb::value_error("canvas must not share memory with image: pass image.copy()");
    nb::gil_scoped_release release;
    fe::resize(view, {first, int(height), int(width), stride});
}

nb::object nms(const Array& boxes, const Array& scores, const Array& groups, double threshold,
               const std::string& mode) {
    const float* corners = checked<float>("boxes", boxes, {any, 4});
    const auto count = int64_t(boxes.shape(0));
    const float* score = checked<float>("scores", scores, {count});
    const int32_t* group = checked<int32_t>("groups", groups, {count});
    const fe::Overlap overlap = as_overlap(mode);
    if (!(threshold >= 0.0 && threshold <= 1.0))
        throw nb::value_error(("threshold must be 0 to 1, but is " + std::to_string(threshold)).c_str());
    for (int64_t i = 0; i < count; ++i) {
        if (std::isnan(score[i]))
            throw nb::value_error(("scores[" + std::to_string(i) + "] must be a number, but is NaN").c_str());
        for (int k = 0; k < 4; ++k)
            if (!std::isfinite(corners[4 * i + k]))
                throw nb::value_error(("boxes[" + std::to_string(i) + "] must be finite").c_str());
    }
    std::vector<int64_t> kept;
    {
        nb::gil_scoped_release release;
        kept = fe::nms(corners, score, group, size_t(count), threshold, overlap);
    }
    std::unique_ptr<int64_t[]> out(new int64_t[kept.size()]);
    std::copy(kept.begin(), kept.end(), out.get());
    return owned_array(std::move(out), {kept.size()});
}

nb::object fit_similarity(const Array& points, const Array& goal) {
    const double* from = checked<double>("points", points, {any, fe::kPoints, 2});
    const double* to = checked<double>("template", goal, {fe::kPoints, 2});
    if (std::isnan(fe::fit_similarity(to, to).a))
        throw nb::value_error("template must have finite points that do not all coincide");
    const size_t count = points.shape(0);
    std::unique_ptr<double[]> out(new double[6 * count]);
    {
        nb::gil_scoped_release release;
        for (size_t i = 0; i < count; ++i) {
            const fe::Matrix m = fe::fit_similarity(from + 2 * fe::kPoints * i, to);
            const double values[6] = {m.a, m.b, m.tx, m.c, m.d, m.ty};
            std::copy(values, values + 6, out.get() + 6 * i);
        }
    }
    return owned_array(std::move(out), {count, 2, 3});
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() =
        "faceembed's native kernels: antialiased warp and resize, non-maximum suppression, five-point alignment.\n\n"
        "They release the GIL while they work, so Python threads overlap. They know nothing of models or files.";

    m.def("warp", &warp, "image"_a, "matrices"_a, "height"_a, "width"_a, nb::kw_only(), "border"_a = "constant",
          "threads"_a = 1,
          nb::sig("def warp(image: NDArray[np.uint8], matrices: NDArray[np.float64], height: int, width: int, *, "
                  "border: str = 'constant', threads: int = 1) -> NDArray[np.uint8]"),
          R"(Cut `n` antialiased similarity warps out of one image.

Output pixel (x, y) has its centre at c = matrix @ (x, y, 1) in the source, pixel centres at whole numbers. With
s = sqrt(|det|) source pixels per output pixel and r = max(s, 1), it is the mean of the source pixels p weighted by
tent((px - cx) / r) * tent((py - cy) / r), tent(t) = max(0, 1 - |t|), rounded half up. At s <= 1 this is bilinear
interpolation; there is no jump between the two. The tent lies along the source's axes whatever the rotation.

Args:
    image: uint8, shape (H, W, 3). Rows must be packed; they may be apart, so a crop needs no copy.
    matrices: float64, shape (n, 2, 3), output to source. Rotation, one scale, translation and mirroring only.
    height, width: size of an output, pixels.
    border: what lies outside the image and counts: "constant" (0) or "replicate" (the nearest pixel).
    threads: native threads to split the outputs over. The result does not depend on it.

Returns:
    uint8, shape (n, height, width, 3).

Raises:
    ValueError: a wrong shape or layout; a matrix that is not finite or not a similarity (relative tolerance 1e-6).
    TypeError: a wrong dtype.
)");

    m.def("warp_many", &warp_many, "images"_a, "image_of"_a, "matrices"_a, "height"_a, "width"_a, nb::kw_only(),
          "border"_a = "constant", "threads"_a = 1,
          nb::sig("def warp_many(images: list[NDArray[np.uint8]], image_of: NDArray[np.int32], matrices: "
                  "NDArray[np.float64], "
                  "height: int, width: int, *, border: str = 'constant', threads: int = 1) -> NDArray[np.uint8]"),
          R"(`warp`, each output from its own image, in one call.

Args:
    images: uint8 arrays of shape (H, W, 3), each of its own size.
    image_of: int32, shape (n,): the image of each output, an index into `images`.
    matrices, height, width, border, threads: as in `warp`.

Returns:
    uint8, shape (n, height, width, 3).

Raises:
    ValueError, TypeError: as in `warp`; an index outside `images`.
)");

    m.def("resize", &resize, "image"_a, "height"_a, "width"_a,
          nb::sig("def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]"),
          R"(Resize with antialiasing: a tent of radius max(source / output, 1) pixels along each axis.

Pixel areas correspond: source x = (x + 0.5) * W / width - 0.5. Weights are normalised over the pixels inside the image.

Args:
    image: uint8, shape (H, W, 3), packed rows.
    height, width: size of the output, pixels; the two factors may differ.

Returns:
    uint8, shape (height, width, 3).

Raises:
    ValueError, TypeError: a wrong shape, layout or dtype.
)");

    m.def("resize_into", &resize_into, "image"_a, "canvas"_a, "y"_a, "x"_a, "height"_a, "width"_a,
          nb::sig("def resize_into(image: NDArray[np.uint8], canvas: NDArray[np.uint8], y: int, x: int, height: int, "
                  "width: int) -> None"),
          R"(`resize` into the rectangle `canvas[y:y+height, x:x+width]`; the rest of the canvas is left alone.

Raises:
    ValueError, TypeError: as in `resize`; a rectangle that leaves the canvas; a canvas that shares memory with the image.
)");

    m.def("nms", &nms, "boxes"_a, "scores"_a, "groups"_a, "threshold"_a, "mode"_a = "union",
          nb::sig("def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], groups: NDArray[np.int32], "
                  "threshold: float, "
                  "mode: str = 'union') -> NDArray[np.int64]"),
          R"(Greedy non-maximum suppression within groups.

By descending score (of equal scores the lower index first) a box is kept unless a kept box of its group covers more than
`threshold` of their union, or of the smaller of the two. Areas are real-valued: (x2 - x1) * (y2 - y1).

Args:
    boxes: float32, shape (n, 4): x1 y1 x2 y2.
    scores: float32, shape (n,).
    groups: int32, shape (n,): boxes of different groups never suppress each other.
    threshold: 0 to 1.
    mode: "union" or "min".

Returns:
    int64, shape (kept,): indices into `boxes`, by group and then by descending score.

Raises:
    ValueError, TypeError: a wrong shape, layout, dtype or value.
)");

    m.def("fit_similarity", &fit_similarity, "points"_a, "template"_a,
          nb::sig(
              "def fit_similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]"),
          R"(The matrices that `warp` needs to bring five points of each face onto a template.

Fits points -> template by least squares (the error is measured in template pixels; no reflection; Umeyama 1991,
https://doi.org/10.1109/34.88573) and inverts, so a matrix maps template to photo coordinates.

Args:
    points: float64, shape (n, 5, 2): x y in the photo.
    template: float64, shape (5, 2): where they belong in the output.

Returns:
    float64, shape (n, 2, 3); all NaN for a face whose points are not finite, all coincide, or fit no scale above 0.

Raises:
    ValueError, TypeError: a wrong shape, layout, dtype, or a template whose points coincide.
)");
}
