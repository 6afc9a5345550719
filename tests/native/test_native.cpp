// The kernels without Python: every instruction set the processor has against the scalar definition in warp.h, with the
// pixels in blocks of exactly their size, so that AddressSanitizer sees a read too far:
//     cmake -S . -B build/asan -DFACEEMBED_TESTS=ON -DCMAKE_CXX_FLAGS=-fsanitize=address,undefined
//     cmake --build build/asan && build/asan/test_native
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "blake3.h"
#include "nms.h"
#include "pack.h"
#include "photo_reader.h"
#include "sharpness.h"
#include "similarity.h"
#include "warp_host.h"

namespace fe = faceembed;

static int failures = 0;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                         \
        }                                                                       \
    } while (0)

struct Pixels {
    Pixels(int height, int width, unsigned seed = 1)
        : height(height), width(width), bytes(3 * std::size_t(height) * width) {
        std::mt19937 random(seed);
        for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
    }
    fe::Image image() const { return {bytes.data(), height, width, 3LL * width}; }
    fe::Canvas canvas() { return {bytes.data(), height, width, 3LL * width}; }

    int height, width;
    std::vector<unsigned char> bytes;
};

static fe::Matrix turn(double scale, double angle, double x, double y) {
    const double c = scale * std::cos(angle), s = scale * std::sin(angle);
    return {c, -s, x, s, c, y};
}

// Largest distance between the fast warp and the definition, in levels, before rounding the latter.
static float worst_difference(const Pixels& source, const fe::Matrix& m, fe::Border border, int height, int width,
                              fe::Arithmetic arithmetic = fe::Arithmetic::floats) {
    Pixels out(height, width);
    fe::warp(source.image(), m, border, out.canvas(), arithmetic);
    float worst = 0.0f;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            float value[3];
            fe::sample(source.image(), m.a * x + m.b * y + m.tx, m.c * x + m.d * y + m.ty, fe::tent_radius(m), border,
                       value);
            for (int k = 0; k < 3; ++k)
                worst = std::fmax(worst, std::fabs(value[k] - out.bytes[3 * (std::size_t(y) * width + x) + k]));
        }
    return worst;
}

static void test_warp_follows_the_definition() {
    const double scales[] = {0.2, 0.9, 1.0, 1.3, 1.7, 2.2, 2.5, 3.3, 4.9, 7.6, 8.1, 16.5, 40.0};
    const double angles[] = {0.0, 1e-9, 0.4, 1.5707963267948966, -2.8};
    const int sizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {3, 4}, {17, 33}, {64, 50}};
    for (const auto& size : sizes) {
        const Pixels source(size[0], size[1]);
        for (double scale : scales)
            for (double angle : angles)
                for (fe::Border border : {fe::Border::constant, fe::Border::replicate})
                    CHECK(worst_difference(source, turn(scale, angle, size[1] * 0.4, size[0] * 0.3), border, 11, 14) <
                          0.51f);
    }
    const Pixels source(20, 20);
    for (double far : {1e5, -1e5, 1e18, -1e300})
        CHECK(worst_difference(source, turn(3.0, 0.3, far, -far), fe::Border::replicate, 5, 5) < 0.51f);
    CHECK(worst_difference(source, turn(fe::kMaxScale, 0.3, 0.0, 0.0), fe::Border::replicate, 5, 5) < 0.51f);
}

// Of pixels that are made one by one in floats and of those in vectors, at every count that has loops of its own, and of
// one without; images that are a vector wide and a pixel less.
static void test_fixed_point_is_a_level_away_at_most() {
    const double scales[] = {0.2, 0.93, 1.0, 1.2, 1.7, 2.2, 2.8, 3.3, 3.9, 4.2, 4.8, 5.4, 5.9, 7.6, 31.9, 33.0};
    const int sizes[][2] = {{1, 22}, {9, 21}, {30, 22}, {64, 50}, {90, 140}};
    for (const auto& size : sizes) {
        const Pixels source(size[0], size[1]);
        for (double scale : scales)
            for (double angle : {1e-9, 0.4, -2.8})
                for (fe::Border border : {fe::Border::constant, fe::Border::replicate}) {
                    const fe::Matrix m = turn(scale, angle, size[1] * 0.4, size[0] * 0.3);
                    CHECK(worst_difference(source, m, border, 11, 24, fe::Arithmetic::fixed) < 1.4f);
                }
        for (int height : {1, 7, 40, 90})
            for (int width : {1, 5, 9, 33, 140}) {
                Pixels exact(height, width), fixed(height, width);
                fe::resize(source.image(), exact.canvas());
                fe::resize(source.image(), fixed.canvas(), fe::Arithmetic::fixed);
                int worst = 0;
                for (std::size_t i = 0; i < exact.bytes.size(); ++i)
                    worst = std::max(worst, std::abs(int(exact.bytes[i]) - int(fixed.bytes[i])));
                CHECK(worst <= 1);
            }
    }
    const Pixels source(40, 40);
    for (double far : {1e5, -1e5, 1e18, -1e300})
        CHECK(worst_difference(source, turn(3.0, 0.3, far, -far), fe::Border::replicate, 5, 5, fe::Arithmetic::fixed) <
              1.4f);
}

static void test_resize_keeps_a_constant_and_its_rectangle() {
    for (int from : {1, 2, 5, 6, 16, 47, 100})
        for (int to : {1, 2, 7, 31, 48}) {
            Pixels source(from, from + 3), out(to, to + 1);
            std::fill(source.bytes.begin(), source.bytes.end(), static_cast<unsigned char>(201));
            for (fe::Arithmetic arithmetic : {fe::Arithmetic::floats, fe::Arithmetic::fixed}) {
                fe::resize(source.image(), out.canvas(), arithmetic);
                bool constant = true;
                for (unsigned char byte : out.bytes) constant = constant && byte == 201;
                CHECK(constant);
            }
        }
    for (fe::Arithmetic arithmetic : {fe::Arithmetic::floats, fe::Arithmetic::fixed}) {
        Pixels source(40, 30), around(20, 20, 5);
        const Pixels before = around;
        fe::resize(source.image(), {around.bytes.data() + 3 * (4 * 20 + 6), 10, 9, 60}, arithmetic);
        bool untouched = true;
        for (int y = 0; y < 20; ++y)
            for (int x = 0; x < 20; ++x)
                if (y < 4 || y >= 14 || x < 6 || x >= 15)
                    for (int k = 0; k < 3; ++k)
                        untouched =
                            untouched && around.bytes[3 * (y * 20 + x) + k] == before.bytes[3 * (y * 20 + x) + k];
        CHECK(untouched);
    }
}

static void test_matrices_are_judged() {
    CHECK(fe::check_matrix(turn(2.0, 0.7, 5.0, 6.0)) == fe::MatrixCheck::ok);
    CHECK(fe::check_matrix({-1, 0, 3, 0, 1, 4}) == fe::MatrixCheck::ok);
    CHECK(fe::check_matrix({1, 0, NAN, 0, 1, 0}) == fe::MatrixCheck::not_finite);
    CHECK(fe::check_matrix({1, 0, INFINITY, 0, 1, -INFINITY}) == fe::MatrixCheck::not_finite);
    CHECK(fe::check_matrix({1, 0.1, 0, 0, 1, 0}) == fe::MatrixCheck::not_similarity);
    CHECK(fe::check_matrix({1, 0, 0, 0, 1.00001, 0}) == fe::MatrixCheck::not_similarity);
    CHECK(fe::check_matrix({1, 0, 0, 0, 1.0000001, 0}) == fe::MatrixCheck::ok);
    CHECK(fe::check_matrix({0, 0, 0, 0, 0, 0}) == fe::MatrixCheck::zero_scale);
    CHECK(fe::check_matrix({1e7, 0, 0, 0, 1e7, 0}) == fe::MatrixCheck::too_large);
}

static void test_weights_in_closed_form() {
    for (double r : {1.0, 1.4, 2.0, 3.7, 25.0})
        for (double centre : {10.0, 10.25, 10.999, 11.5}) {
            const fe::Footprint f = fe::footprint(centre, r, 40);
            double sum = 0.0, part = 0.0;
            for (int k = 0; k < f.count; ++k) {
                const double w = std::fmax(0.0, 1.0 - std::fabs(k - f.offset) / r);
                sum += w;
                if (k >= 1 && k <= 2) part += w;
            }
            CHECK(std::fabs(fe::sum_of_weights(f, r, 0.0, f.count) - sum) < 1e-5);
            CHECK(std::fabs(fe::sum_of_weights(f, r, 1.0, 2.0) - part) < 1e-5);
        }
}

static void test_nms() {
    const float boxes[] = {0, 0, 10, 10, 1, 1, 11, 11, 0, 0, 10, 10, 50, 50, 60, 60, 2, 2, 4, 4};
    const float scores[] = {0.5f, 0.9f, 0.8f, 0.1f, 0.7f};
    const std::int32_t groups[] = {0, 0, 1, 0, 0};
    CHECK((fe::nms(boxes, scores, groups, 5, 0.5, fe::Overlap::over_union) == std::vector<std::int64_t>{1, 4, 3, 2}));
    CHECK((fe::nms(boxes, scores, groups, 5, 0.5, fe::Overlap::over_smaller) == std::vector<std::int64_t>{1, 3, 2}));
    CHECK(fe::nms(nullptr, nullptr, nullptr, 0, 0.5, fe::Overlap::over_union).empty());
}

static void test_fit_similarity() {
    const double goal[10] = {38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041};
    const fe::Matrix known = turn(3.0, -0.6, 100.0, 40.0);
    double points[10];
    for (int i = 0; i < 5; ++i) {
        points[2 * i] = known.a * goal[2 * i] + known.b * goal[2 * i + 1] + known.tx;
        points[2 * i + 1] = known.c * goal[2 * i] + known.d * goal[2 * i + 1] + known.ty;
    }
    const fe::Matrix found = fe::fit_similarity(points, goal);
    CHECK(std::fabs(found.a - known.a) + std::fabs(found.b - known.b) + std::fabs(found.tx - known.tx) +
              std::fabs(found.ty - known.ty) <
          1e-9);
    for (double& value : points) value = 4.0;
    CHECK(std::isnan(fe::fit_similarity(points, goal).a));
}

// Number by number from the description in pack.h; rows shorter and longer than a vector, rooms of exactly their size.
static void test_pack_follows_its_description() {
    for (int step : {1, 2, 3, 4})
        for (int blocks : {1, 2, 5, 23}) {
            const int height = 2 * step, width = blocks * step;
            const Pixels source(height, width, static_cast<unsigned>(blocks));
            const float mean[3] = {127.5f, 103.94f, 1.0f}, scale = 1.0f / 57.3f;
            std::vector<float> means, line(3 * width), out(source.bytes.size());
            for (int x = 0; x < width; ++x) means.insert(means.end(), mean, mean + 3);
            fe::pack(source.bytes.data(), height, width, step, means.data(), scale, line.data(), out.data());
            std::vector<fe::BFloat16> short_line(3 * width), halves(source.bytes.size());
            fe::pack(source.bytes.data(), height, width, step, means.data(), scale, short_line.data(), halves.data());
            bool same = true, rounded = true;
            std::size_t at = 0;
            for (int by = 0; by < height / step; ++by)
                for (int bx = 0; bx < blocks; ++bx)
                    for (int dy = 0; dy < step; ++dy)
                        for (int dx = 0; dx < step; ++dx)
                            for (int c = 0; c < 3; ++c, ++at) {
                                const int y = by * step + dy, x = bx * step + dx;
                                const float value =
                                    (static_cast<float>(source.bytes[3 * (std::size_t(y) * width + x) + c]) - mean[c]) *
                                    scale;
                                same = same && out[at] == value;
                                const std::uint32_t bits = std::uint32_t(halves[at].bits) << 16;
                                float half;
                                std::memcpy(&half, &bits, sizeof half);
                                rounded = rounded && std::fabs(half - value) <= std::fabs(value) / 256;
                            }
            CHECK(same);
            CHECK(rounded);
        }
    // Half-way between two: to the even one.
    const unsigned char pixels[3] = {0, 1, 2};
    const float means[3] = {-257.0f, -258.0f, -257.0f};  // 257, 259, 259: 9 bits, of which 8 stay
    fe::BFloat16 line[3], out[3];
    fe::pack(pixels, 1, 1, 1, means, 1.0f, line, out);
    CHECK(out[0].bits == 0x4380 && out[1].bits == 0x4382 && out[2].bits == 0x4382);
}

// The sum from the description in sharpness.h; widths on both sides of a vector and of the 1,024 that are summed in 32 bits.
static void test_sharpness_follows_its_description() {
    const auto mirrored = [](int at, int length) { return at < 0 ? -at : at >= length ? 2 * length - 2 - at : at; };
    for (int width : {2, 3, 8, 33, 1023, 1025, 2100})
        for (int height : {2, 3, 7}) {
            Pixels source(height, width, static_cast<unsigned>(width + height));
            if (height == 3)  // the largest Laplacians there are
                for (std::size_t i = 0; i < source.bytes.size(); ++i)
                    source.bytes[i] = (i / 3 / width + i / 3 % width) % 2 ? 255 : 0;
            const auto grey = [&](int y, int x) {
                const unsigned char* p = &source.bytes[3 * (std::size_t(mirrored(y, height)) * width + mirrored(x, width))];
                return (p[0] * 9798 + p[1] * 19235 + p[2] * 3735 + (1 << 14)) >> 15;
            };
            double sum = 0.0, squares = 0.0;
            for (int y = 0; y < height; ++y)
                for (int x = 0; x < width; ++x) {
                    const double value =
                        grey(y - 1, x) + grey(y + 1, x) + grey(y, x - 1) + grey(y, x + 1) - 4 * grey(y, x);
                    sum += value;
                    squares += value * value;
                }
            const double count = double(height) * width, wanted = squares / count - sum / count * (sum / count);
            std::vector<short> room(3 * (std::size_t(width) + 2));
            const double found = fe::sharpness(source.bytes.data(), height, width, room.data());
            CHECK(std::fabs(found - wanted) <= 1e-12 * wanted);
        }
}

// What BLAKE3's own package says of its test vectors' input: the bytes 0, 1, ... 250, 0, ...; all at once, so that lanes hold different files.
static void test_blake3_agrees_with_its_authors() {
    struct Known {
        std::size_t size;
        const char* digest;
    };
    const Known known[] = {{0, "af1349b9f5f9a1a6a0404dea36dcc949"},
                           {1, "2d3adedff11b61f14c886e35afa03673"},
                           {2, "7b7015bb92cf0b318037702a6cdd81de"},
                           {63, "e9bc37a594daad83be9470df7f7b3798"},
                           {64, "4eed7141ea4a5cd4b788606bd23f46e2"},
                           {65, "de1e5fa0be70df6d2be8fffd0e99ceaa"},
                           {127, "d81293fda863f008c09e92fc382a81f5"},
                           {1023, "10108970eeda3eb932baac1428c7a216"},
                           {1024, "42214739f095a406f3fc83deb889744a"},
                           {1025, "d00278ae47eb27b34faecf67b4fe263f"},
                           {2048, "e776b6028c7cd22a4d0ba182a8bf6220"},
                           {2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3"},
                           {3072, "b98cb0ff3623be03326b373de6b90952"},
                           {3073, "7124b49501012f81cc7f11ca069ec922"},
                           {4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd2"},
                           {5121, "628bd2cb2004694adaab7bbd778a25df"},
                           {8193, "bab6c09cb8ce8cf459261398d2e7aef3"},
                           {16384, "f875d6646de28985646f34ee13be9a57"},
                           {31744, "62b6960e1a44bcc1eb1a611a8d6235b6"},
                           {102400, "bc3e3d41a1146b069abffad3c0d44860"}};
    std::vector<std::vector<unsigned char>> blocks;
    std::vector<fe::Bytes> files;
    for (const Known& one : known) {
        blocks.emplace_back(one.size);
        for (std::size_t i = 0; i < one.size; ++i) blocks.back()[i] = static_cast<unsigned char>(i % 251);
    }
    for (const auto& block : blocks) files.push_back({block.data(), block.size()});
    const std::vector<fe::Digest> digests = fe::blake3(files);
    for (std::size_t i = 0; i < digests.size(); ++i) {
        char text[33];
        for (int k = 0; k < 16; ++k) std::snprintf(text + 2 * k, 3, "%02x", digests[i].bytes[k]);
        CHECK(std::string(text) == known[i].digest);
    }
}

// In blocks of exactly their size: cut anywhere, a header is read no further than it goes.
static void test_photos() {
    const unsigned char jpeg[] = {0xFF, 0xD8, 0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'I', 'I', 42, 0, 8, 0, 0, 0,
                                  1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xC0, 0, 11, 8, 0, 5,
                                  0, 7, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0xFF, 0xD9};
    for (std::size_t size = 0; size <= sizeof jpeg; ++size) {
        const std::vector<unsigned char> cut(jpeg, jpeg + size);
        fe::JpegHeader header{};
        const bool read = fe::read_jpeg(cut.data(), size, header);
        CHECK(read == (size >= 55));
        CHECK(!read || (header.width == 7 && header.height == 5 && header.orientation == 6 && header.colours == 1));
        CHECK(fe::is_surely_whole(cut.data(), size) == (size == sizeof jpeg));
    }
    const unsigned char nothing[] = {0xAF, 0x13, 0x49, 0xB9, 0xF5, 0xF9, 0xA1, 0xA6,
                                     0xA0, 0x40, 0x4D, 0xEA, 0x36, 0xDC, 0xC9, 0x49};  // of BLAKE3's test vectors
    std::vector<std::vector<unsigned char>> blocks;
    std::vector<fe::Bytes> files;
    for (std::size_t size : {0, 1, 63, 64, 65, 1023, 1024, 1025, 3072, 9000}) blocks.emplace_back(size, 7);
    for (const auto& block : blocks) files.push_back({block.data(), block.size()});
    const std::vector<fe::Digest> together = fe::blake3(files);
    CHECK(std::equal(nothing, nothing + 16, together[0].bytes));
    for (std::size_t i = 0; i < files.size(); ++i)
        CHECK(std::equal(together[i].bytes, together[i].bytes + 16, fe::blake3({files[i]})[0].bytes));
}

int main() {
    for (fe::InstructionSet set :
         {fe::InstructionSet::baseline, fe::InstructionSet::avx2, fe::InstructionSet::avx512}) {
        if (set > fe::best_instruction_set()) continue;
        std::printf("instruction set %d\n", static_cast<int>(set));
        fe::use_instruction_set(set);
        test_warp_follows_the_definition();
        test_fixed_point_is_a_level_away_at_most();
        test_resize_keeps_a_constant_and_its_rectangle();
        test_pack_follows_its_description();
        test_sharpness_follows_its_description();
        test_blake3_agrees_with_its_authors();
    }
    test_matrices_are_judged();
    test_weights_in_closed_form();
    test_nms();
    test_fit_similarity();
    test_photos();
    std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
