// Composition of one sequence: base counts, k-mer counts by phase, z-curve components and the z-curve itself.
//
// Contract: texts are clean (alphabet.hpp); N takes part in nothing, neither as a base nor within a k-mer.
// Nothing here throws or allocates. Bases stand in the order A, C, G, T, and a k-mer's code is its number in
// base 4 in that order, the first base most significant. The phase of a k-mer is the position of its first
// base, from 0, modulo the number of phases.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "alphabet.hpp"
#include "kmer.hpp"

namespace fastgenome {

inline constexpr detail::Letters alphabetical = {'A', 'C', 'G', 'T'};

namespace detail {

// One counter of 16 bits for each of A, C, G, T in one word: counting costs one addition per character.
constexpr std::array<std::uint64_t, 256> make_base_increments() noexcept {
    std::array<std::uint64_t, 256> increments{};
    for (int base = 0; base < 4; ++base) {
        increments[static_cast<std::uint8_t>(alphabetical[base])] = std::uint64_t{1} << (16 * base);
    }
    return increments;
}

inline constexpr auto base_increments = make_base_increments();

}  // namespace detail

// Counts of A, C, G, T.
inline std::array<std::int64_t, 4> count_bases(Text text) noexcept {
    constexpr std::int64_t block = 0xFFFF;
    const auto size = static_cast<std::int64_t>(text.size());
    std::array<std::int64_t, 4> counts{};
    for (std::int64_t start = 0; start < size; start += block) {
        const std::int64_t stop = std::min(size, start + block);
        std::uint64_t fields = 0;
        for (std::int64_t i = start; i < stop; ++i) fields += detail::base_increments[text[i]];
        for (int base = 0; base < 4; ++base) counts[base] += (fields >> (16 * base)) & 0xFFFF;
    }
    return counts;
}

// Adds 1 to counts[phase * 4^k + code] for every k-mer without N; `counts` holds phases * 4^k entries.
inline void count_kmers(Text text, int k, int phases, std::span<std::int64_t> counts) noexcept {
    detail::KmerBlock block;
    const std::int64_t windows = static_cast<std::int64_t>(text.size()) - k + 1;
    const std::int64_t columns = std::int64_t{1} << (2 * k);
    for (std::int64_t start = 0; start < windows; start += detail::block_starts) {
        const std::int64_t starts = std::min(detail::block_starts, windows - start);
        const bool any_unknown = detail::code_block(text.data() + start, starts, k, alphabetical, block);
        for (std::int64_t first = 0; first < std::min<std::int64_t>(phases, starts); ++first) {
            std::int64_t* const of_phase = counts.data() + (start + first) % phases * columns;
            if (any_unknown) {
                for (std::int64_t i = first; i < starts; i += phases)
                    of_phase[block.codes[i]] += !block.unknown[i];
            } else {
                for (std::int64_t i = first; i < starts; i += phases) ++of_phase[block.codes[i]];
            }
        }
    }
}

// The three differences that the z-curve is made of (Zhang & Zhang 1994).
template <typename Number>
struct ZComponents {
    Number x;  // purine over pyrimidine: (A + G) - (C + T)
    Number y;  // amino over keto:        (A + C) - (G + T)
    Number z;  // weak over strong:       (A + T) - (C + G)
};

template <typename Number>
constexpr ZComponents<Number> z_components(Number a, Number c, Number g, Number t) noexcept {
    return {(a + g) - (c + t), (a + c) - (g + t), (a + t) - (c + g)};
}

// Number of z-curve parameters of order k: x, y and z for each of 4^(k-1) prefixes and each phase.
constexpr std::int64_t z_parameter_count(int k, int phases) noexcept {
    return 3 * phases * (std::int64_t{1} << (2 * (k - 1)));
}

// z-curve parameters of order k from the counts of count_kmers, phase by phase, prefix by prefix, x then y
// then z. The counts of a phase are divided by their sum; a phase without any k-mer gives zeros.
inline void z_parameters(std::span<const std::int64_t> counts, int k, int phases,
                         std::span<double> out) noexcept {
    const std::size_t columns = std::size_t{1} << (2 * k);
    auto end = out.begin();
    for (int phase = 0; phase < phases; ++phase) {
        const auto part = counts.subspan(static_cast<std::size_t>(phase) * columns, columns);
        std::int64_t total = 0;
        for (const std::int64_t count : part) total += count;
        const double scale = total == 0 ? 0.0 : 1.0 / static_cast<double>(total);
        for (std::size_t prefix = 0; prefix < columns; prefix += 4) {
            const auto [x, y, z] =
                z_components(part[prefix], part[prefix + 1], part[prefix + 2], part[prefix + 3]);
            *end++ = static_cast<double>(x) * scale;
            *end++ = static_cast<double>(y) * scale;
            *end++ = static_cast<double>(z) * scale;
        }
    }
}

// The z-curve: rows (x_n, y_n, z_n) for n = 1 ... text.size(); `out` holds 3 * text.size() entries. An N
// leaves the curve where it was. The text must be shorter than 2^31.
inline void z_curve(Text text, std::span<std::int32_t> out) noexcept {
    ZComponents<std::int32_t> at{0, 0, 0};
    auto end = out.begin();
    for (const std::uint8_t byte : text) {
        const auto [x, y, z] = z_components<std::int32_t>(byte == 'A', byte == 'C', byte == 'G', byte == 'T');
        at = {at.x + x, at.y + y, at.z + z};
        *end++ = at.x;
        *end++ = at.y;
        *end++ = at.z;
    }
}

}  // namespace fastgenome
