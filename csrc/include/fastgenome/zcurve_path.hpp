// The z-curve as a path along a text, its relatives, and their trends.
//
// Contract: texts are clean and shorter than 2^31; nothing here throws or allocates. An N moves no curve.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "zcurve.hpp"

namespace fastgenome {

namespace detail {

// The bits 1 and 2 of the letters A, C, G, T are 0, 1, 3, 2.
constexpr ZComponents<std::int32_t> step_of_bits(int bits) noexcept {
    return z_components<std::int32_t>(bits == 0, bits == 1, bits == 3, bits == 2);
}

// For four bases: the points x, y, z of the curve from the origin, and the last of them four times. Both are
// filled up to 16 numbers with zeros.
struct FourSteps {
    std::array<std::int8_t, 16> points;
    std::array<std::int8_t, 16> last;
};

constexpr std::array<FourSteps, 256> make_four_steps() noexcept {
    std::array<FourSteps, 256> table{};
    for (int code = 0; code < 256; ++code) {
        std::array<std::int8_t, 3> at{};
        for (int base = 0; base < 4; ++base) {
            const auto step = step_of_bits(code >> (2 * base) & 3);
            at[0] = static_cast<std::int8_t>(at[0] + step.x);
            at[1] = static_cast<std::int8_t>(at[1] + step.y);
            at[2] = static_cast<std::int8_t>(at[2] + step.z);
            for (int axis = 0; axis < 3; ++axis) table[code].points[3 * base + axis] = at[axis];
        }
        for (int i = 0; i < 12; ++i) table[code].last[i] = at[i % 3];
    }
    return table;
}

alignas(64) inline constexpr auto four_steps = make_four_steps();

// A point of the curve, four times.
using PathPoint = std::array<std::int32_t, 16>;

struct WritePath {
    static void run(const std::uint8_t* bytes, std::int64_t size, std::int32_t* out) noexcept {
        PathPoint at{};
        std::int64_t i = 0;
        for (; i + 4 <= size; i += 4) {
            const std::uint8_t* const four = bytes + i;
            // Of the letters A, C, G, T and N, only N has the bit 8.
            if ((four[0] | four[1] | four[2] | four[3]) & 8) {
                write_few(four, 4, at, out + 3 * i);
                continue;
            }
            const int code =
                (four[0] >> 1 & 3) | (four[1] << 1 & 12) | (four[2] << 3 & 48) | (four[3] << 5 & 192);
            const FourSteps& steps = four_steps[static_cast<std::size_t>(code)];
            std::int32_t* const points = out + 3 * i;
            for (std::size_t j = 0; j < 12; ++j) points[j] = at[j] + steps.points[j];
            for (std::size_t j = 0; j < 12; ++j) at[j] += steps.last[j];
        }
        write_few(bytes + i, size - i, at, out + 3 * i);
    }

#ifdef FASTGENOME_X86
    // Four bases at once, whose 12 numbers are written as 16: the next four write over the others.
    FASTGENOME_AVX512 static void run_avx512(const std::uint8_t* bytes, std::int64_t size,
                                             std::int32_t* out) noexcept {
        PathPoint point{};
        __m512i at = _mm512_setzero_si512();
        std::int64_t i = 0;
        for (; i + 6 <= size; i += 4) {
            std::uint32_t four;
            std::memcpy(&four, bytes + i, sizeof four);
            if (four & 0x08080808) {
                _mm512_storeu_si512(point.data(), at);
                write_few(bytes + i, 4, point, out + 3 * i);
                at = _mm512_loadu_si512(point.data());
                continue;
            }
            const FourSteps& steps = four_steps[_pext_u32(four, 0x06060606)];
            _mm512_storeu_si512(out + 3 * i, _mm512_add_epi32(at, widened(steps.points)));
            at = _mm512_add_epi32(at, widened(steps.last));
        }
        _mm512_storeu_si512(point.data(), at);
        write_few(bytes + i, size - i, point, out + 3 * i);
    }
#endif

  private:
#ifdef FASTGENOME_X86
    FASTGENOME_AVX512 static __m512i widened(const std::array<std::int8_t, 16>& numbers) noexcept {
        return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers.data())));
    }
#endif

    static void write_few(const std::uint8_t* bytes, std::int64_t size, PathPoint& at,
                          std::int32_t* out) noexcept {
        for (std::int64_t i = 0; i < size; ++i) {
            if (bytes[i] != 'N') {
                const auto [x, y, z] = step_of_bits(bytes[i] >> 1 & 3);
                for (std::size_t j = 0; j < 12; j += 3) {
                    at[j] += x;
                    at[j + 1] += y;
                    at[j + 2] += z;
                }
            }
            for (std::size_t axis = 0; axis < 3; ++axis)
                out[3 * i + static_cast<std::int64_t>(axis)] = at[axis];
        }
    }
};

}  // namespace detail

// The z-curve: rows (x_n, y_n, z_n) for n = 1 ... text.size(); `out` holds 3 * text.size() entries.
inline void z_curve(Text text, std::int32_t* out) noexcept {
    dispatch<detail::WritePath>(text.data(), static_cast<std::int64_t>(text.size()), out);
}

// What each of A, C, G, T adds to a curve.
using BaseSteps = std::array<std::int32_t, 4>;

// The sum of the steps of the first n bases, n = 1 ... text.size().
inline void step_curve(Text text, const BaseSteps& steps, std::int32_t* out) noexcept {
    std::array<std::int32_t, 256> of_byte{};
    of_byte['A'] = steps[0];
    of_byte['C'] = steps[1];
    of_byte['G'] = steps[2];
    of_byte['T'] = steps[3];
    std::int32_t at = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        at += of_byte[text[i]];
        out[i] = at;
    }
}

// Among the first n dinucleotides, n = 1 ... text.size() - 1, those that are CpG less those that are not; one
// with an N is neither.
inline void cpg_curve(Text text, std::int32_t* out) noexcept {
    std::int32_t at = 0;
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
        const bool known = text[i] != 'N' && text[i + 1] != 'N';
        const bool cpg = text[i] == 'C' && text[i + 1] == 'G';
        at += known ? (cpg ? 1 : -1) : 0;
        out[i] = at;
    }
}

enum class Trend : int {
    fit,  // of the straight line that fits the curve best, by least squares
    ends  // of the line from the origin to the last point
};

// The slope of a curve over n = 1 ... values.size(); 0 where it has less than two points.
inline double slope_of(std::span<const std::int32_t> values, Trend trend) noexcept {
    const auto size = static_cast<double>(values.size());
    if (values.size() < 2) return 0.0;
    if (trend == Trend::ends) return values.back() / size;
    const double middle = (size + 1.0) / 2.0;
    double covariance = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i)
        covariance += (static_cast<double>(i + 1) - middle) * values[i];
    // The sum of (n - middle)^2.
    return covariance / (size * (size * size - 1.0) / 12.0);
}

// out[n - 1] = values[n - 1] - slope * n.
inline void subtract_trend(std::span<const std::int32_t> values, double slope, double* out) noexcept {
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i] - slope * static_cast<double>(i + 1);
}

}  // namespace fastgenome
