// Python bindings: convert, check, release the GIL, call. The kernels are in the headers beside this file.
#include <cmath>
#include <cstring>
#include <new>

#include "bindings.h"
#include "nms.h"
#include "pack.h"
#include "said.h"
#include "sharpness.h"
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

nb::object paint(const nb::list& images, const Array& sizes, int64_t height, int64_t width, int64_t grey, bool exact) {
    std::vector<Array> keep;
    const std::vector<fe::Image> views = as_images(images, keep);
    const int32_t* size = checked<int32_t>("sizes", sizes, {int64_t(views.size()), 2});
    check_size("height", height);
    check_size("width", width);
    if (grey < 0 || grey > 255)
        throw nb::value_error(("grey must be 0 to 255, but is " + std::to_string(grey)).c_str());
    for (size_t i = 0; i < views.size(); ++i)
        if (size[2 * i] < 1 || size[2 * i] > height || size[2 * i + 1] < 1 || size[2 * i + 1] > width)
            throw nb::value_error(("sizes[" + std::to_string(i) + "] must be 1 to " + shape_text({height, width}) +
                                   ", but is " + shape_text({size[2 * i], size[2 * i + 1]}))
                                      .c_str());
    const size_t bytes = 3 * size_t(height) * size_t(width);
    if (views.size() > SIZE_MAX / bytes) throw std::bad_alloc();
    std::unique_ptr<uint8_t[]> out(new uint8_t[views.size() * bytes]);
    {
        nb::gil_scoped_release release;
        for (size_t i = 0; i < views.size(); ++i) {
            uint8_t* const first = out.get() + i * bytes;
            const size_t rows = size_t(size[2 * i]), columns = 3 * size_t(size[2 * i + 1]), stride = 3 * size_t(width);
            for (size_t y = 0; y < rows && columns < stride; ++y)
                std::memset(first + y * stride + columns, int(grey), stride - columns);
            std::memset(first + rows * stride, int(grey), bytes - rows * stride);
            fe::resize(views[i], {first, int(rows), int(size[2 * i + 1]), 3 * width}, arithmetic(exact));
        }
    }
    return owned_array(std::move(out), {views.size(), size_t(height), size_t(width), 3});
}

template <typename Stored, typename Number>
nb::object pack_as(const unsigned char* pixels, size_t count, int height, int width, int step, const float* mean,
                   float scale) {
    static_assert(sizeof(Stored) == sizeof(Number));
    const size_t values = 3 * size_t(height) * size_t(width);
    if (count > SIZE_MAX / (4 * values)) throw std::bad_alloc();
    std::unique_ptr<Stored[]> out(new Stored[count * values]);
    {
        nb::gil_scoped_release release;
        std::vector<float> means(3 * size_t(width));
        for (size_t i = 0; i < means.size(); ++i) means[i] = mean[i % 3];
        std::vector<Number> line(means.size());
        for (size_t i = 0; i < count; ++i)
            fe::pack(pixels + i * values, height, width, step, means.data(), scale, line.data(),
                     reinterpret_cast<Number*>(out.get() + i * values));
    }
    const size_t block = size_t(step);
    return owned_array(std::move(out), {count, size_t(height) / block, size_t(width) / block, 3 * block * block});
}

nb::object pack(const Array& pixels, int64_t step, const Array& mean, double scale, bool half) {
    const uint8_t* first = checked<uint8_t>("pixels", pixels, {any, any, any, 3});
    const float* means = checked<float>("mean", mean, {3});
    const auto height = int64_t(pixels.shape(1)), width = int64_t(pixels.shape(2));
    check_size("height", height);
    check_size("width", width);
    if (step < 1 || height % step || width % step)
        throw nb::value_error(("the sides of pictures must be multiples of " + std::to_string(step) + ", but are " +
                               std::to_string(height) + " and " + std::to_string(width))
                                  .c_str());
    const size_t count = pixels.shape(0);
    const int h = int(height), w = int(width), s = int(step);
    if (half) return pack_as<uint16_t, fe::BFloat16>(first, count, h, w, s, means, float(scale));
    return pack_as<float, float>(first, count, h, w, s, means, float(scale));
}

nb::object sharpness(const Array& chips) {
    const uint8_t* first = checked<uint8_t>("chips", chips, {any, any, any, 3});
    const auto height = int64_t(chips.shape(1)), width = int64_t(chips.shape(2));
    if (height < 2 || width < 2)
        throw nb::value_error(("chips must have 2 rows and columns or more, but their shape is " +
                               shape_text({int64_t(chips.shape(0)), height, width, 3}))
                                  .c_str());
    check_size("height", height);
    check_size("width", width);
    const size_t count = chips.shape(0), bytes = 3 * size_t(height) * size_t(width);
    std::unique_ptr<float[]> out(new float[count]);
    {
        nb::gil_scoped_release release;
        std::vector<short> room(3 * size_t(width + 2));
        for (size_t i = 0; i < count; ++i)
            out[i] = float(fe::sharpness(first + i * bytes, int(height), int(width), room.data()));
    }
    return owned_array(std::move(out), {count});
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

    m.def("listen", &fe::listen, nb::sig("def listen() -> bool"),
          R"(Keep what C libraries print on stderr in this thread, until `heard` is called.

Returns:
    Whether that can be done here; if not, it is printed as ever.)");
    m.def("heard",
          [] {
              const std::string text = fe::heard();
              return nb::bytes(text.data(), text.size());
          },
          nb::sig("def heard() -> bytes"),
          R"(What was printed in this thread since `listen`, up to 4,096 bytes; from here on it is printed again.)");
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

    m.def("paint", &paint, "images"_a, "sizes"_a, "height"_a, "width"_a, nb::kw_only(), "grey"_a, "exact"_a = true,
          nb::sig("def paint(images: list[NDArray[np.uint8]], sizes: NDArray[np.int32], height: int, width: int, *, "
                  "grey: int, exact: bool = True) -> NDArray[np.uint8]"),
          R"(`resize` of each image into the top left corner of a canvas of its own; what is left is grey.

Args:
    images: n uint8 arrays of shape (H, W, 3), each of its own size.
    sizes: int32, shape (n, 2): rows and columns of each copy, at most those of a canvas.
    height, width: of a canvas, pixels.
    grey: 0 to 255.
    exact: as in `warp`.

Returns:
    uint8, shape (n, height, width, 3).

Raises:
    ValueError, TypeError: a wrong shape, layout, dtype or value.
)");

    m.def("pack", &pack, "pixels"_a, "step"_a, "mean"_a, "scale"_a, nb::kw_only(), "half"_a,
          nb::sig("def pack(pixels: NDArray[np.uint8], step: int, mean: NDArray[np.float32], scale: float, *, half: "
                  "bool) -> NDArray[Any]"),
          R"(Normalised pixels, each block of `step` x `step` next to each other, for a convolution with that stride.

Args:
    pixels: uint8, shape (n, H, W, 3), H and W multiples of `step`.
    mean: float32, shape (3,).
    scale: a value is (pixel - mean) * scale.
    half: True for bfloat16, rounded to the nearest even, in the bits of uint16; False for float32.

Returns:
    uint16 or float32, shape (n, H / step, W / step, 3 * step * step); within a block by row, column, channel.

Raises:
    ValueError, TypeError: a wrong shape, layout, dtype or value.
)");

    m.def("sharpness", &sharpness, "chips"_a,
          nb::sig("def sharpness(chips: NDArray[np.uint8]) -> NDArray[np.float32]"),
          R"(Variance of the Laplacian of the grey levels of each picture, as OpenCV makes both.

Args:
    chips: uint8 RGB, shape (n, H, W, 3), H and W at least 2.

Returns:
    float32, shape (n,).

Raises:
    ValueError, TypeError: a wrong shape, layout or dtype.
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
