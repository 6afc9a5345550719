// The binding of photo_reader.h.
#include "bindings.h"
#include "photo_reader.h"

using namespace nanobind::literals;

namespace faceembed::binding {
namespace {

constexpr size_t kLargest = size_t{8} << 20;  // from here on Python looks at a file's head before it reads the rest

std::string hexadecimal(const fe::Digest& digest) {
    static const char* digits = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : digest.bytes) text += {digits[byte >> 4], digits[byte & 15]};
    return text;
}

nb::list read_photos(const nb::list& paths, const nb::list& sizes, const std::string& beside, int64_t threads) {
    check_threads(threads);
    if (paths.size() != sizes.size())
        throw nb::value_error(("paths and sizes must be as many, but are " + std::to_string(paths.size()) + " and " +
                               std::to_string(sizes.size()))
                                  .c_str());
    const size_t count = paths.size();
    std::vector<fe::PhotoToRead> photos(count);
    std::vector<nb::object> bytes(count);
    for (size_t i = 0; i < count; ++i) {
        const auto size = nb::cast<int64_t>(sizes[i]);
        nb::object path = nb::steal(PyUnicode_EncodeFSDefault(nb::handle(paths[i]).ptr()));
        if (!path.is_valid()) throw nb::python_error();
        photos[i].path.assign(PyBytes_AS_STRING(path.ptr()), size_t(PyBytes_GET_SIZE(path.ptr())));
        const bool plain = photos[i].path.find('\0') == std::string::npos && photos[i].path.find("::") == std::string::npos;
        if (!plain || size < 1 || size_t(size) >= kLargest) continue;
        bytes[i] = nb::steal(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(size)));
        if (!bytes[i].is_valid()) {  // Python's way says it
            PyErr_Clear();
            continue;
        }
        photos[i].data = reinterpret_cast<unsigned char*>(PyBytes_AS_STRING(bytes[i].ptr()));
        photos[i].size = size_t(size);
    }
    {
        nb::gil_scoped_release release;
        const size_t parts = std::min<size_t>(size_t(threads), count);
        parallel_for(parts, parts, [&](size_t part) {
            fe::read_photos(photos, count * part / parts, count * (part + 1) / parts, beside);
        });
    }
    nb::list answers;
    for (size_t i = 0; i < count; ++i) {
        const fe::PhotoToRead& photo = photos[i];
        if (!photo.done) {
            answers.append(nb::none());
            continue;
        }
        const fe::JpegHeader& header = photo.header;
        const nb::tuple found = nb::make_tuple(header.width, header.height, header.orientation, header.colours);
        answers.append(nb::make_tuple(bytes[i], hexadecimal(photo.digest), found, photo.whole));
    }
    return answers;
}

}  // namespace

void add_photos(nb::module_& m) {
    m.def("read_photos", &read_photos, "paths"_a, "sizes"_a, "beside"_a, "threads"_a = 1,
          nb::sig("def read_photos(paths: list[str], sizes: list[int], beside: str, threads: int = 1) -> "
                  "list[tuple[bytes, str, tuple[int, int, int, int], bool] | None]"),
          R"(Read the files of ordinary JPEGs, hash them, and say what their headers say.

What is out of the ordinary is None, for whatever reason, and is to be read by Python, which has the words for it: a file that is not there, not a
plain one, not of the size it was listed with, of 8 MiB and more; another format, a damaged header, other than 8 bits and one or three
colours; a photo in an archive; one with a file beside it whose name is longer by `beside`.

Args:
    paths: of photos.
    sizes: bytes of each, as listed.
    beside: an ending.
    threads: native threads to split the photos over.

Returns:
    Of each photo its bytes; BLAKE3 of these, 128 bits, hexadecimal; width and height as stored, pixels, EXIF's orientation 1 to 8, and
    colour components; and whether `whole.check_jpeg` surely finds its data whole.

Raises:
    ValueError: not as many sizes as paths; less than one thread.
)");
}

}  // namespace faceembed::binding
