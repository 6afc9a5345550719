// Reads photos' files, hashes them, and parses the headers of ordinary JPEGs: what Python does for one photo in `intake`, for a run of photos
// without Python's lock. Whatever is out of the ordinary is left alone, so that there is one place where each error gets its words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "blake3.h"

namespace faceembed {

struct JpegHeader {
    int width, height;  // as stored
    int orientation;    // 1 to 8
    int colours;        // 1 or 3
};

// Whether these bytes are a JPEG that `headers/jpeg.py` takes without a word: baseline, extended or progressive with Huffman's
// codes, 8 bits, one or three colours, sound up to its first scan. False says nothing: ask Python.
bool read_jpeg(const unsigned char* data, std::size_t size, JpegHeader& header);

// Whether it ends with the end marker and has nowhere 256 zeros in a row: then `whole.check_jpeg` has nothing to say.
bool is_surely_whole(const unsigned char* data, std::size_t size);

struct PhotoToRead {
    std::string path;     // as the system takes it
    unsigned char* data;  // room for the size that it was listed with; not read if null
    std::size_t size;
    // Answers:
    bool done = false;  // all the others hold, and there is no file with what a program noted beside it
    bool whole = false;
    JpegHeader header{};
    Digest digest{};
};

// Read some of the photos, those in [begin, end).
void read_photos(std::vector<PhotoToRead>& photos, std::size_t begin, std::size_t end, const std::string& beside);

}  // namespace faceembed
