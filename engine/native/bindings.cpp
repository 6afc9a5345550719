// Python bindings: convert, check, release the GIL, call. The kernels are in the headers beside this file.
#include <cmath>
#include <new>

#include "bindings.h"
#include "nms.h"
#include "similarity.h"
#include "warp_host.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace fe = faceembed;
using namespace faceembed::binding;

namespace {

fe::Border as_border(const std::string& border) {
    if (border == "constant") return fe::Border::constant;
    if (border == "replicate") return fe::Border::replicate;
    throw nb::value_error(("border must be 'constant' or 'replicate', but is '" + border + "'").c_str());
}

fe::Arithmetic arithmetic(bool exact) { return exact ? fe::Arithmetic::floats : fe::Arithmetic::fixed; }

fe::Overlap as_overlap(const std::string& mode) {
    if (mode == "union") return fe::Overlap::over_union;
    if (mode == "min") return fe::Overlap::over_smaller;
    throw nb::value_error(("mode must be 'union' or 'min', but is '" + mode + "'").c_str());
}

nb::object warp_batch(const std::vector<fe::Image>& images, const int32_t* image_of,
                      const std::vector<fe::Matrix>& matrices, int64_t height, int64_t width, fe::Border border,
                      int64_t threads, bool exact) {
    check_size("height", height);
    check_size("width", width);
    check_threads(threads);
    const size_t count = matrices.size(), bytes = 3 * size_t(height) * size_t(width);
    if (count > SIZE_MAX / bytes) throw std::bad_alloc();
    std::unique_ptr<uint8_t[]> out(new uint8_t[count * bytes]);
    {
        nb::gil_scoped_release release;
        parallel_for(count, size_t(threads), [&](size_t i) {
            const fe::Canvas canvas{out.get() + i * bytes, int(height), int(width), 3 * width};
            fe::warp(images[image_of ? image_of[i] : 0], matrices[i], border, canvas, arithmetic(exact));
        });
    }
    return owned_array(std::move(out), {count, size_t(height), size_t(width), 3});
}

nb::object warp(const Array& image, const Array& matrices, int64_t height, int64_t width, const std::string& border,
                int64_t threads, bool exact) {
    return warp_batch({as_image("image", image)}, nullptr, as_matrices(matrices), height, width, as_border(border),
                      threads, exact);
}

nb::object warp_many(const nb::list& images, const Array& image_of, const Array& matrices, int64_t height,
                     int64_t width, const std::string& border, int64_t threads, bool exact) {
    std::vector<Array> keep;
    const std::vector<fe::Image> views = as_images(images, keep);
    const std::vector<fe::Matrix> maps = as_matrices(matrices);
    const int32_t* which = checked<int32_t>("image_of", image_of, {int64_t(maps.size())});
    for (size_t i = 0; i < maps.size(); ++i)
        if (which[i] < 0 || size_t(which[i]) >= views.size())
            throw nb::value_error(("image_of[" + std::to_string(i) + "] must be 0 to " +
                                   std::to_string(int64_t(views.size()) - 1) + " (" + std::to_string(views.size()) +
                                   " images), but is " + std::to_string(which[i]))
                                      .c_str());
    return warp_batch(views, which, maps, height, width, as_border(border), threads, exact);
}

nb::object resize(const Array& image, int64_t height, int64_t width, bool exact) {
    const fe::Image view = as_image("image", image);
    check_size("height", height);
    check_size("width", width);
    std::unique_ptr<uint8_t[]> out(new uint8_t[3 * size_t(height) * size_t(width)]);
    {
        nb::gil_scoped_release release;
        fe::resize(view, {out.get(), int(height), int(width), 3 * width}, arithmetic(exact));
    }
    return owned_array(std::move(out), {size_t(height), size_t(width), 3});
}

void resize_into(const Array& image, const WritableArray& canvas, int64_t y, int64_t x, int64_t height, int64_t width,
                 bool exact) {
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
    fe::resize(view, {first, int(height), int(width), stride}, arithmetic(exact));
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
        "faceembed's native kernels: antialiased warp and resize, non-maximum suppression, five-point alignment, reading of photos.\n\n"
        "They release the GIL while they work, so Python threads overlap. They know nothing of models.";

    m.def("warp", &warp, "image"_a, "matrices"_a, "height"_a, "width"_a, nb::kw_only(), "border"_a = "constant",
          "threads"_a = 1, "exact"_a = true,
          nb::sig("def warp(image: NDArray[np.uint8], matrices: NDArray[np.float64], height: int, width: int, *, "
                  "border: str = 'constant', threads: int = 1, exact: bool = True) -> NDArray[np.uint8]"),
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
    exact: False makes the sums in fixed point where the processor has AVX2: two to five times as fast, and one level
        away at most.

Returns:
    uint8, shape (n, height, width, 3).

Raises:
    ValueError: a wrong shape or layout; a matrix that is not finite or not a similarity (relative tolerance 1e-6).
    TypeError: a wrong dtype.
)");

    m.def("warp_many", &warp_many, "images"_a, "image_of"_a, "matrices"_a, "height"_a, "width"_a, nb::kw_only(),
          "border"_a = "constant", "threads"_a = 1, "exact"_a = true,
          nb::sig("def warp_many(images: list[NDArray[np.uint8]], image_of: NDArray[np.int32], matrices: "
                  "NDArray[np.float64], "
                  "height: int, width: int, *, border: str = 'constant', threads: int = 1, exact: bool = True) -> "
                  "NDArray[np.uint8]"),
          R"(`warp`, each output from its own image, in one call.

Args:
    images: uint8 arrays of shape (H, W, 3), each of its own size.
    image_of: int32, shape (n,): the image of each output, an index into `images`.
    matrices, height, width, border, threads, exact: as in `warp`.

Returns:
    uint8, shape (n, height, width, 3).

Raises:
    ValueError, TypeError: as in `warp`; an index outside `images`.
)");

    m.def("resize", &resize, "image"_a, "height"_a, "width"_a, nb::kw_only(), "exact"_a = true,
          nb::sig("def resize(image: NDArray[np.uint8], height: int, width: int, *, exact: bool = True) -> "
                  "NDArray[np.uint8]"),
          R"(Resize with antialiasing: a tent of radius max(source / output, 1) pixels along each axis.

Pixel areas correspond: source x = (x + 0.5) * W / width - 0.5. Weights are normalised over the pixels inside the image.

Args:
    image: uint8, shape (H, W, 3), packed rows.
    height, width: size of the output, pixels; the two factors may differ.
    exact: as in `warp`.

Returns:
    uint8, shape (height, width, 3).

Raises:
    ValueError, TypeError: a wrong shape, layout or dtype.
)");

    m.def("resize_into", &resize_into, "image"_a, "canvas"_a, "y"_a, "x"_a, "height"_a, "width"_a, nb::kw_only(),
          "exact"_a = true,
          nb::sig("def resize_into(image: NDArray[np.uint8], canvas: NDArray[np.uint8], y: int, x: int, height: int, "
                  "width: int, *, exact: bool = True) -> None"),
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

    add_kernels(m);
    add_photos(m);
}
