// BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs/blob/master/blake3.pdf) of many files at once: a vector's lanes are blocks of different
// chunks, whichever file they are of, so that photos of a few chunks fill them as well as large ones do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faceembed {

struct Bytes {
    const unsigned char* data;
    std::size_t size;
};

// The first 16 bytes of a hash, 128 bits.
struct Digest {
    unsigned char bytes[16];
};

std::vector<Digest> blake3(const std::vector<Bytes>& files);

}  // namespace faceembed
