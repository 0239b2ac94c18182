// The letters of a genome, made clean without moving any: a coordinate stays what it is.
//
// The rules are those of alphabet.hpp, but for what would shift or need the whole contig: a gap becomes N
// instead of being removed, and U is T whatever else the contig holds. With `keep_case`, lower case (a
// soft-masked base) stays lower. White space and everything else is refused.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "only_bases.hpp"

namespace fastgenome {

namespace detail {

// What each byte becomes, by keep_case; 0 for what is refused.
constexpr std::array<std::uint8_t, 256> make_genome_letters(bool keep_case) noexcept {
    std::array<std::uint8_t, 256> letters{};
    for (int byte = 0; byte < 256; ++byte) {
        const CleaningRule& rule = cleaning_rules[byte];
        const bool is_gap = byte == '-' || byte == '.';
        const bool is_letter = rule.kept != 0 && (rule.increments & one(Field::invalid)) == 0;
        if (!is_gap && !is_letter) continue;
        const bool is_lower = byte >= 'a' && byte <= 'z';
        letters[byte] = static_cast<std::uint8_t>(rule.replacement | (keep_case && is_lower ? 0x20 : 0));
    }
    return letters;
}

inline constexpr std::array<std::array<std::uint8_t, 256>, 2> genome_letters = {make_genome_letters(false),
                                                                                make_genome_letters(true)};

struct UpperCase {
    static void run(std::uint8_t* bytes, std::int64_t size) noexcept {
        for (std::int64_t i = 0; i < size; ++i) bytes[i] &= 0xDF;
    }
};

}  // namespace detail

// Cleans in place. Returns the position of the first byte that is refused, or -1; what stands behind it is
// undefined then.
inline std::int64_t clean_genome_letters(std::span<std::uint8_t> letters, bool keep_case) noexcept {
    constexpr std::int64_t block = 4096;  // stays in the nearest cache between the two passes
    const std::array<std::uint8_t, 256>& table = detail::genome_letters[keep_case ? 1 : 0];
    const auto size = static_cast<std::int64_t>(letters.size());
    for (std::int64_t start = 0; start < size; start += block) {
        std::uint8_t* bytes = letters.data() + start;
        const std::int64_t count = std::min(block, size - start);
        if (only_bases({bytes, static_cast<std::size_t>(count)})) {
            if (!keep_case) dispatch<detail::UpperCase>(bytes, count);
            continue;
        }
        for (std::int64_t i = 0; i < count; ++i) {
            const std::uint8_t letter = table[bytes[i]];
            if (letter == 0) return start + i;
            bytes[i] = letter;
        }
    }
    return -1;
}

// Whether the byte may stand in a genome.
inline bool is_genome_letter(std::uint8_t byte) noexcept { return detail::genome_letters[0][byte] != 0; }

inline bool are_genome_letters(Text text) noexcept {
    return only_bases(text) || std::ranges::all_of(text, is_genome_letter);
}

}  // namespace fastgenome
