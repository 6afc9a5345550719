// See blake3.h. The names are those of the paper's section 2.
#include "blake3.h"

#include <algorithm>
#include <cstring>

#include "inlined.h"
#include "warp_host.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FE_X86_CLONES 1
#endif

namespace faceembed {
namespace {

constexpr std::size_t kChunk = 1024, kBlock = 64;
constexpr std::uint32_t kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8;
constexpr std::uint32_t kIv[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                  0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
constexpr unsigned char kSchedule[7][16] = {  // which word of the block each place of a round takes
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

struct Node {
    std::uint32_t words[8];
};

struct Chunk {
    const unsigned char* data;
    std::size_t size;
    std::uint32_t number;
    std::uint32_t last;  // flags of its last block
};

// Two nodes that lie one behind the other, and what the node above is: a root or none.
struct Pair {
    const Node* children;
    std::uint32_t flags;
};

template <int W>
struct Lanes {
    typedef std::uint32_t Type __attribute__((vector_size(4 * W)));
};

template <int W>
FE_INLINE void load(typename Lanes<W>::Type& to, const std::uint32_t* from) {
    std::memcpy(&to, from, sizeof to);
}

template <class V, int N>
FE_INLINE void rotate(V& value) {
    value = (value >> N) | (value << (32 - N));
}

template <class V>
FE_INLINE void mix(V* v, int a, int b, int c, int d, const V& x, const V& y) {
    v[a] += v[b] + x;
    v[d] ^= v[a];
    rotate<V, 16>(v[d]);
    v[c] += v[d];
    v[b] ^= v[c];
    rotate<V, 12>(v[b]);
    v[a] += v[b] + y;
    v[d] ^= v[a];
    rotate<V, 8>(v[d]);
    v[c] += v[d];
    v[b] ^= v[c];
    rotate<V, 7>(v[b]);
}

// The compression function, lane by lane; `chain` is what comes in and goes out.
template <class V>
FE_INLINE void compress(V* chain, const V* m, const V& counter, const V& size, const V& flags) {
    V v[16];
    for (int i = 0; i < 8; ++i) v[i] = chain[i];
    for (int i = 0; i < 4; ++i) v[8 + i] = V{} + kIv[i];
    v[12] = counter, v[13] = V{}, v[14] = size, v[15] = flags;
#pragma GCC unroll 7
    for (int round = 0; round < 7; ++round) {
        const unsigned char* s = kSchedule[round];
        mix<V>(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
        mix<V>(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
        mix<V>(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
        mix<V>(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
        mix<V>(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
        mix<V>(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
        mix<V>(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
        mix<V>(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; ++i) chain[i] = v[i] ^ v[i + 8];
}

template <int W>
FE_INLINE void store(const typename Lanes<W>::Type* chain, std::size_t count, Node* const* out) {
    std::uint32_t words[8][W];
    std::memcpy(words, chain, sizeof words);
    for (std::size_t lane = 0; lane < count; ++lane)
        for (int i = 0; i < 8; ++i) out[lane]->words[i] = words[i][lane];
}

// Up to W chunks, of any sizes.
template <int W>
FE_INLINE void hash_chunks(const Chunk* chunks, std::size_t count, Node* const* out) {
    using V = typename Lanes<W>::Type;
    std::size_t blocks[W], most = 1;
    std::uint32_t counter[W] = {};
    for (std::size_t lane = 0; lane < count; ++lane) {
        blocks[lane] = std::max<std::size_t>(1, (chunks[lane].size + kBlock - 1) / kBlock);
        most = std::max(most, blocks[lane]);
        counter[lane] = chunks[lane].number;
    }
    V chain[8], counters;
    for (int i = 0; i < 8; ++i) chain[i] = V{} + kIv[i];
    load<W>(counters, counter);
    for (std::size_t block = 0; block < most; ++block) {
        std::uint32_t words[16][W] = {}, size[W] = {}, flags[W] = {}, busy[W] = {};
        for (std::size_t lane = 0; lane < count; ++lane) {
            if (block >= blocks[lane]) continue;
            const Chunk& chunk = chunks[lane];
            const unsigned char* from = chunk.data + block * kBlock;
            std::uint32_t padded[16] = {};
            const std::size_t left = std::min(kBlock, chunk.size - std::min(chunk.size, block * kBlock));
            if (left) std::memcpy(padded, from, left);  // little-endian, as the paper has it
            for (int i = 0; i < 16; ++i) words[i][lane] = padded[i];
            size[lane] = std::uint32_t(left);
            flags[lane] = (block ? 0 : kChunkStart) | (block + 1 == blocks[lane] ? chunk.last : 0);
            busy[lane] = ~std::uint32_t{0};
        }
        V m[16], sizes, flag, mask, next[8];
        for (int i = 0; i < 16; ++i) load<W>(m[i], words[i]);
        load<W>(sizes, size), load<W>(flag, flags), load<W>(mask, busy);
        for (int i = 0; i < 8; ++i) next[i] = chain[i];
        compress<V>(next, m, counters, sizes, flag);
        for (int i = 0; i < 8; ++i) chain[i] = (next[i] & mask) | (chain[i] & ~mask);
    }
    store<W>(chain, count, out);
}

template <int W>
FE_INLINE void hash_pairs(const Pair* pairs, std::size_t count, Node* const* out) {
    using V = typename Lanes<W>::Type;
    std::uint32_t words[16][W] = {}, flags[W] = {};
    for (std::size_t lane = 0; lane < count; ++lane) {
        for (int i = 0; i < 16; ++i) words[i][lane] = pairs[lane].children[i / 8].words[i % 8];
        flags[lane] = pairs[lane].flags;
    }
    V chain[8], m[16], flag;
    for (int i = 0; i < 8; ++i) chain[i] = V{} + kIv[i];
    for (int i = 0; i < 16; ++i) load<W>(m[i], words[i]);
    load<W>(flag, flags);
    compress<V>(chain, m, V{}, V{} + std::uint32_t(kBlock), flag);
    store<W>(chain, count, out);
}

struct Kernels {
    std::size_t lanes;
    void (*chunks)(const Chunk*, std::size_t, Node* const*);
    void (*pairs)(const Pair*, std::size_t, Node* const*);
};

void chunks4(const Chunk* c, std::size_t n, Node* const* out) { hash_chunks<4>(c, n, out); }
void pairs4(const Pair* p, std::size_t n, Node* const* out) { hash_pairs<4>(p, n, out); }
#ifdef FE_X86_CLONES
__attribute__((target("avx2"))) void chunks8(const Chunk* c, std::size_t n, Node* const* out) {
    hash_chunks<8>(c, n, out);
}
__attribute__((target("avx2"))) void pairs8(const Pair* p, std::size_t n, Node* const* out) { hash_pairs<8>(p, n, out); }
__attribute__((target("avx512f"))) void chunks16(const Chunk* c, std::size_t n, Node* const* out) {
    hash_chunks<16>(c, n, out);
}
__attribute__((target("avx512f"))) void pairs16(const Pair* p, std::size_t n, Node* const* out) {
    hash_pairs<16>(p, n, out);
}
#endif

Kernels kernels() {
#ifdef FE_X86_CLONES
    if (instruction_set() == InstructionSet::avx512) return {16, chunks16, pairs16};
    if (instruction_set() == InstructionSet::avx2) return {8, chunks8, pairs8};
#endif
    return {4, chunks4, pairs4};
}

template <class Job>
void in_lanes(const std::vector<Job>& jobs, const std::vector<Node*>& out, std::size_t lanes,
              void (*work)(const Job*, std::size_t, Node* const*)) {
    for (std::size_t at = 0; at < jobs.size(); at += lanes)
        work(jobs.data() + at, std::min(lanes, jobs.size() - at), out.data() + at);
}

}  // namespace

std::vector<Digest> blake3(const std::vector<Bytes>& files) {
    const Kernels use = kernels();
    std::vector<std::vector<Node>> trees(files.size());  // the nodes of one level
    std::vector<Chunk> chunks;
    std::vector<Node*> out;
    for (std::size_t i = 0; i < files.size(); ++i) {
        const std::size_t count = std::max<std::size_t>(1, (files[i].size + kChunk - 1) / kChunk);
        trees[i].resize(count);
        for (std::size_t number = 0; number < count; ++number) {
            const std::size_t begin = number * kChunk, size = std::min(kChunk, files[i].size - begin);
            chunks.push_back({files[i].data + begin, size, std::uint32_t(number),
                              kChunkEnd | (count == 1 ? kRoot : 0)});
            out.push_back(&trees[i][number]);
        }
    }
    in_lanes(chunks, out, use.lanes, use.chunks);
    // Neighbours are joined, level by level, and who has none waits: the same tree as the paper's (section 2.1).
    for (;;) {
        std::vector<std::vector<Node>> above(files.size());
        std::vector<Pair> pairs;
        out.clear();
        for (std::size_t i = 0; i < files.size(); ++i) {
            const std::size_t count = trees[i].size();
            if (count < 2) continue;
            above[i].resize((count + 1) / 2);
            for (std::size_t at = 0; at + 1 < count; at += 2) {
                pairs.push_back({&trees[i][at], kParent | (count == 2 ? kRoot : 0)});
                out.push_back(&above[i][at / 2]);
            }
            if (count % 2) above[i].back() = trees[i].back();
        }
        if (pairs.empty()) break;
        in_lanes(pairs, out, use.lanes, use.pairs);
        for (std::size_t i = 0; i < files.size(); ++i)
            if (!above[i].empty()) trees[i].swap(above[i]);
    }
    std::vector<Digest> digests(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) std::memcpy(digests[i].bytes, trees[i][0].words, sizeof(Digest));
    return digests;
}

}  // namespace faceembed
