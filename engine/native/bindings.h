// What the bindings share: checks that say what is wrong with an array, and arrays that own their memory.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "half.h"
#include "warp.h"

namespace nanobind::detail {

template <>
struct dtype_traits<faceembed::Half> {
    static constexpr dlpack::dtype value{static_cast<uint8_t>(dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = const_name("float16");
};

}  // namespace nanobind::detail

namespace faceembed::binding {

namespace nb = nanobind;
namespace fe = faceembed;

using Array = nb::ndarray<nb::ro, nb::device::cpu>;  // any dtype and shape: the checks below say what is wrong with it
using WritableArray = nb::ndarray<nb::device::cpu>;

constexpr int64_t kMaxSide = int64_t{1} << 24;  // pixel indices stay exact in float32 and 3 * width in 32 bits
constexpr int64_t any = -1;                     // in an expected shape: any length

inline std::string dtype_name(nb::dlpack::dtype dtype) {
    const char* kind = dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Int)     ? "int"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::UInt)  ? "uint"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Float) ? "float"
                       : dtype.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bool)  ? "bool"
                                                                                           : "other";
    return kind + std::to_string(dtype.bits);
}

inline std::string shape_text(const std::vector<int64_t>& shape) {
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

inline long long row_stride(int64_t height, int64_t width, int64_t stride) { return height > 1 ? stride : 3 * width; }

inline fe::Image as_image(const std::string& name, const Array& array) {
    check_pixels(name, array);
    return {static_cast<const unsigned char*>(array.data()), static_cast<int>(array.shape(0)),
            static_cast<int>(array.shape(1)), row_stride(array.shape(0), array.shape(1), array.stride(0))};
}

inline void check_size(const char* name, int64_t value) {
    if (value < 1 || value > kMaxSide)
        throw nb::value_error((std::string(name) + " must be 1 to 16777216, but is " + std::to_string(value)).c_str());
}

inline std::string matrix_text(const fe::Matrix& m) {
    std::string text = "[[";
    const double values[6] = {m.a, m.b, m.tx, m.c, m.d, m.ty};
    for (int i = 0; i < 6; ++i) {
        char number[32];
        std::snprintf(number, sizeof number, "%.6g", values[i]);
        text += (i == 0 ? "" : i == 3 ? "], [" : ", ") + std::string(number);
    }
    return text + "]]";
}

inline std::vector<fe::Matrix> as_matrices(const Array& array) {
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

// The list's arrays as photos. `keep` holds the buffers while the GIL is released: another thread may empty the list.
inline std::vector<fe::Image> as_images(const nb::list& images, std::vector<Array>& keep) {
    std::vector<fe::Image> views;
    for (size_t i = 0; i < images.size(); ++i) {
        const std::string name = "images[" + std::to_string(i) + "]";
        Array array;
        if (!nb::try_cast(images[i], array, false)) throw nb::type_error((name + " must be a NumPy array").c_str());
        views.push_back(as_image(name, array));
        keep.push_back(std::move(array));
    }
    return views;
}

inline void check_threads(int64_t threads) {
    if (threads < 1) throw nb::value_error(("threads must be at least 1, but is " + std::to_string(threads)).c_str());
}

// The CPU build of what the CUDA kernels do, under the names that engine/pipeline/gpu/kernels.py gives it.
void add_kernels(nb::module_& m);

// Reading of photos' files.
void add_photos(nb::module_& m);

}  // namespace faceembed::binding
