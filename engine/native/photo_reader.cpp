// See photo_reader.h.
#include "photo_reader.h"

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#endif

#include <cerrno>
#include <cstring>

namespace faceembed {
namespace {

// The orientation of EXIF data as `headers/exif.py` reads it: 1 where there is none.
int orientation_of(const unsigned char* exif, std::size_t size) {
    if (size >= 6 && std::memcmp(exif, "Exif\0\0", 6) == 0) exif += 6, size -= 6;
    if (size < 2 || (std::memcmp(exif, "II", 2) != 0 && std::memcmp(exif, "MM", 2) != 0)) return 1;
    const bool little = exif[0] == 'I';
    const auto number = [&](std::uint64_t at, int bytes, std::uint64_t& value) {
        if (at + bytes > size) return false;
        value = 0;
        for (int i = 0; i < bytes; ++i) value = value << 8 | exif[at + (little ? bytes - 1 - i : i)];
        return true;
    };
    std::uint64_t at, count, tag, kind, value;
    if (!number(4, 4, at) || !number(at, 2, count)) return 1;
    for (std::uint64_t entry = at + 2; entry < at + 2 + 12 * count; entry += 12) {
        if (!number(entry, 2, tag) || !number(entry + 2, 2, kind)) return 1;
        if (tag != 274) continue;
        return number(entry + 8, kind == 3 ? 2 : 4, value) && value >= 1 && value <= 8 ? int(value) : 1;
    }
    return 1;
}

#ifdef _WIN32

bool exists(const std::string&) { return false; }

bool read_all(const std::string&, unsigned char*, std::size_t) { return false; }  // all is left to Python

#else

bool exists(const std::string& path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0;  // as os.path.exists: what cannot be looked at is not there
}

// The whole file, if it is a plain one and as long as expected. Looked at before it is opened: who opens a pipe and lets go of it ends it.
bool read_all(const std::string& path, unsigned char* data, std::size_t size) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || std::uint64_t(info.st_size) != size) return false;
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return false;
    unsigned char more;  // that it has grown by
    const iovec parts[2] = {{data, size}, {&more, 1}};
    ssize_t got;
    do {
        got = readv(file, parts, 2);
    } while (got < 0 && errno == EINTR);
    close(file);
    return got >= 0 && std::size_t(got) == size;
}

#endif

}  // namespace

bool read_jpeg(const unsigned char* data, std::size_t size, JpegHeader& header) {
    if (size < 4 || data[0] != 0xFF || data[1] != 0xD8 || data[2] != 0xFF) return false;
    if (size >= 132 && std::memcmp(data + 128, "DICM", 4) == 0) return false;  // `headers/unread.py` says what that is
    std::size_t at = 2, frame = 0;
    int orientation = 0;
    for (;;) {
        if (at + 4 > size || data[at] != 0xFF) return false;
        const unsigned char marker = data[at + 1];
        if (marker == 0xFF) {  // a fill byte
            ++at;
            continue;
        }
        if (marker == 0xDA) break;
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
            at += 2;
            continue;
        }
        const std::size_t length = std::size_t(data[at + 2]) << 8 | data[at + 3];
        if (marker == 0xD9 || length < 2 || at + 2 + length > size) return false;
        const bool tables = marker == 0xC4 || marker == 0xC8 || marker == 0xCC;
        if ((marker & 0xF0) == 0xC0 && !tables) {
            if (marker > 0xC2 || frame) return false;
            frame = at;
        } else if (marker == 0xF7) {  // JPEG-LS
            return false;
        } else if (marker == 0xE1 && !orientation && length >= 8 && std::memcmp(data + at + 4, "Exif\0\0", 6) == 0) {
            orientation = orientation_of(data + at + 10, length - 8);
        }
        at += 2 + length;
    }
    if (!frame || frame + 10 > size || data[frame + 4] != 8) return false;
    const unsigned char* f = data + frame + 5;
    header = {f[2] << 8 | f[3], f[0] << 8 | f[1], orientation ? orientation : 1, f[4]};
    return header.width > 0 && header.height > 0 && (header.colours == 1 || header.colours == 3);
}

bool is_surely_whole(const unsigned char* data, std::size_t size) {
    constexpr std::size_t kRun = 256;
    if (size < 2 || data[size - 2] != 0xFF || data[size - 1] != 0xD9) return false;
    for (std::size_t at = kRun - 1; at < size; at += kRun) {  // every run of so many has one of these places
        if (data[at]) continue;
        std::size_t begin = at, end = at + 1;
        while (begin > 0 && !data[begin - 1]) --begin;
        while (end < size && !data[end]) ++end;
        if (end - begin >= kRun) return false;
    }
    return true;
}

void read_photos(std::vector<PhotoToRead>& photos, std::size_t begin, std::size_t end, const std::string& beside) {
    std::vector<Bytes> files;
    std::vector<PhotoToRead*> read;
    for (std::size_t i = begin; i < end; ++i) {
        PhotoToRead& photo = photos[i];
        if (!photo.data || !read_all(photo.path, photo.data, photo.size)) continue;
        if (!read_jpeg(photo.data, photo.size, photo.header) || exists(photo.path + beside)) continue;
        photo.whole = is_surely_whole(photo.data, photo.size);
        files.push_back({photo.data, photo.size});
        read.push_back(&photo);
    }
    const std::vector<Digest> digests = blake3(files);
    for (std::size_t i = 0; i < read.size(); ++i) {
        read[i]->digest = digests[i];
        read[i]->done = true;
    }
}

}  // namespace faceembed
