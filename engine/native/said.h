// What C libraries print on stderr while they work, heard by the thread that they work in.
//
//     listen();                          // from here on this thread's lines are kept
//     jpeg_read_scanlines(...);          // "Corrupt JPEG data: ..." by fprintf(stderr, ...)
//     std::string said = heard();        // and from here on printed again
//
// libjpeg, libpng and libtiff know neither a file's name nor a reason to stop, and print. The C library's `stderr` is a variable: a stream
// stands in it, from the first call on, that hands each thread its own lines and writes those of all others to descriptor 2 as before.
// Where that cannot be done (another C library than GNU's or Apple's) nothing is heard and all is printed.
#pragma once

#include <cstdio>
#include <string>
#include <utility>

#if defined(__GLIBC__) || defined(__APPLE__)
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#define FACEEMBED_HEARS 1
#endif

namespace faceembed {

constexpr size_t kMostHeard = 4096;  // bytes of what one call prints: of a damaged file, thousands of lines

struct Listener {
    bool active = false;
    std::string text;
};

inline Listener& listener() {
    thread_local Listener mine;
    return mine;
}

#ifdef FACEEMBED_HEARS

inline size_t keep_or_print(const char* data, size_t size) {
    Listener& mine = listener();
    if (mine.active) {
        const size_t room = mine.text.size() < kMostHeard ? kMostHeard - mine.text.size() : 0;
        mine.text.append(data, size < room ? size : room);
        return size;
    }
    for (size_t done = 0; done < size;) {
        const ssize_t written = ::write(STDERR_FILENO, data + done, size - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) break;  // nobody can be told
        done += size_t(written);
    }
    return size;
}

inline bool put_stream_in_place() {
#ifdef __GLIBC__
    const auto write = [](void*, const char* data, size_t size) { return ssize_t(keep_or_print(data, size)); };
    FILE* stream = fopencookie(nullptr, "w", {nullptr, write, nullptr, nullptr});
    if (stream) stream->_fileno = STDERR_FILENO;  // for those who ask whether it is a terminal
#else
    const auto write = [](void*, const char* data, int size) { return int(keep_or_print(data, size_t(size))); };
    FILE* stream = funopen(nullptr, nullptr, write, nullptr, nullptr);
#endif
    if (!stream) return false;
    std::setvbuf(stream, nullptr, _IONBF, 0);
    std::fflush(stderr);
    stderr = stream;
    return true;
}

#else

inline bool put_stream_in_place() { return false; }

#endif

// Keep what this thread prints from here on; whether that can be done.
inline bool listen() {
#ifdef FACEEMBED_HEARS
    static std::once_flag once;
    static bool there = false;
    std::call_once(once, [] { there = put_stream_in_place(); });
    listener().text.clear();
    listener().active = there;
    return there;
#else
    return put_stream_in_place();
#endif
}

// What this thread has printed since; empty where nothing was.
inline std::string heard() {
    Listener& mine = listener();
    mine.active = false;
    return std::move(mine.text);
}

}  // namespace faceembed
