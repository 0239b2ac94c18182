// Numbers of the k-mers of a clean text, and how far each place is from the next N.
//
// Contract: never throws, never allocates. The code of eight bases is their number in base 4, the first base
// most significant, in the order A, C, G, T; the code of the first k of them is code >> code_shift(k).
// Whether these k are bases is known from the run that begins there. What follows an N within a code is of no
// meaning.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

inline constexpr int code_bases = 8;

constexpr int code_shift(int k) noexcept { return 2 * (code_bases - k); }

// Places that are coded at once: all that is needed stays in the first-level cache.
inline constexpr std::int64_t code_block_places = 1024;

namespace detail {

struct CodeBases {
    // Codes of eight bases >> shift. Of the places + 7 characters that they take part of, `present` are read;
    // the others count as A.
    static void run(const std::uint8_t* bytes, std::int64_t places, std::int64_t present, int shift,
                    std::uint16_t* codes) noexcept {
        constexpr std::int64_t room = code_block_places + code_bases;
        // Codes of one, two and four bases fit a byte, so that most of the work is done on bytes.
        std::array<std::uint8_t, room> ones;
        std::array<std::uint8_t, room> twos;
        std::array<std::uint8_t, room> fours;
        const std::int64_t size = places + code_bases - 1;
        const std::int64_t read = std::min(size, present);
        for (std::int64_t i = 0; i < read; ++i) {
            // Bits 1 and 2 of the letters A, C, G, T are 0, 1, 3, 2.
            const std::uint8_t bits = (bytes[i] >> 1) & 3;
            ones[i] = static_cast<std::uint8_t>(bits ^ (bits >> 1));
        }
        for (std::int64_t i = read; i < size; ++i) ones[i] = 0;
        for (std::int64_t i = 0; i + 1 < size; ++i)
            twos[i] = static_cast<std::uint8_t>(ones[i] << 2 | ones[i + 1]);
        for (std::int64_t i = 0; i + 3 < size; ++i)
            fours[i] = static_cast<std::uint8_t>(twos[i] << 4 | twos[i + 2]);
        if (shift >= 8) {
            for (std::int64_t i = 0; i < places; ++i)
                codes[i] = static_cast<std::uint8_t>(fours[i] >> (shift - 8));
        } else {
            for (std::int64_t i = 0; i < places; ++i) {
                const auto eight = static_cast<std::uint16_t>(fours[i] << 8 | fours[i + 4]);
                codes[i] = static_cast<std::uint16_t>(eight >> shift);
            }
        }
    }
};

// runs[i] for `places` places, of which the last run ends with the bytes that are present.
inline void find_runs(const std::uint8_t* bytes, std::int64_t places, std::int64_t present,
                      std::uint8_t* runs) noexcept {
    std::uint8_t run = 0;
    for (std::int64_t i = present - 1; i >= 0; --i) {
        run = bytes[i] == 'N' ? 0 : static_cast<std::uint8_t>(std::min<int>(run + 1, code_bases));
        if (i < places) runs[i] = run;
    }
}

}  // namespace detail

// Codes and runs of text[begin, begin + places); the end of the text ends a run like an N.
inline void code_bases_of(Text text, std::int64_t begin, std::int64_t places, std::uint16_t* codes,
                          std::uint8_t* runs) noexcept {
    const std::int64_t needed = places + code_bases - 1;
    const std::int64_t present = std::min(needed, static_cast<std::int64_t>(text.size()) - begin);
    const std::uint8_t* const bytes = text.data() + begin;
    dispatch<detail::CodeBases>(bytes, places, present, 0, codes);
    const bool known = std::memchr(bytes, 'N', static_cast<std::size_t>(present)) == nullptr;
    if (known && present == needed) {
        std::memset(runs, code_bases, static_cast<std::size_t>(places));
    } else {
        detail::find_runs(bytes, places, present, runs);
    }
}

}  // namespace fastgenome
