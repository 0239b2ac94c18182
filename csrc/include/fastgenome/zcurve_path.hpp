// The z-curve as a path along a text, its relatives, and their trends.
//
// Contract: texts are clean and shorter than 2^31; nothing here throws or allocates. An N moves no curve.
#pragma once

#include <array>
#include <cstdint>
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

// For four bases: the points of the curve from the origin, and four times the last one.
struct FourSteps {
    std::array<std::int32_t, 12> points;
    std::array<std::int32_t, 12> last;
};

constexpr std::array<FourSteps, 256> make_four_steps() noexcept {
    std::array<FourSteps, 256> table{};
    for (int code = 0; code < 256; ++code) {
        std::array<std::int32_t, 3> at{};
        for (int base = 0; base < 4; ++base) {
            const auto [x, y, z] = step_of_bits(code >> (2 * base) & 3);
            at = {at[0] + x, at[1] + y, at[2] + z};
            for (int axis = 0; axis < 3; ++axis) table[code].points[3 * base + axis] = at[axis];
        }
        for (int i = 0; i < 12; ++i) table[code].last[i] = at[i % 3];
    }
    return table;
}

inline constexpr auto four_steps = make_four_steps();

struct WritePath {
    static void run(const std::uint8_t* bytes, std::int64_t size, std::int32_t* out) noexcept {
        std::array<std::int32_t, 12> at{};
        std::int64_t i = 0;
        for (; i + 4 <= size; i += 4) {
            const std::uint8_t* const four = bytes + i;
            // Of the letters A, C, G, T and N, only N has the bit 8.
            if ((four[0] | four[1] | four[2] | four[3]) & 8) {
                for (int base = 0; base < 4; ++base) step(four[base], at, out + 3 * (i + base));
                continue;
            }
            const int code =
                (four[0] >> 1 & 3) | (four[1] << 1 & 12) | (four[2] << 3 & 48) | (four[3] << 5 & 192);
            const FourSteps& steps = four_steps[static_cast<std::size_t>(code)];
            for (std::size_t j = 0; j < 12; ++j)
                out[3 * i + static_cast<std::int64_t>(j)] = at[j] + steps.points[j];
            for (std::size_t j = 0; j < 12; ++j) at[j] += steps.last[j];
        }
        for (; i < size; ++i) step(bytes[i], at, out + 3 * i);
    }

  private:
    static void step(std::uint8_t byte, std::array<std::int32_t, 12>& at, std::int32_t* out) noexcept {
        if (byte != 'N') {
            const auto [x, y, z] = step_of_bits(byte >> 1 & 3);
            for (std::size_t j = 0; j < 12; j += 3) {
                at[j] += x;
                at[j + 1] += y;
                at[j + 2] += z;
            }
        }
        for (std::size_t axis = 0; axis < 3; ++axis) out[axis] = at[axis];
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
