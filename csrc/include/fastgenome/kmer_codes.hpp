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
    // Whole vectors are coded, so that no loop ends with single bases.
    static constexpr std::int64_t step = 64;
    static constexpr std::int64_t room = code_block_places + 2 * step;

    // Codes of eight bases >> shift. Of the places + 7 characters that they take part of, `present` are read;
    // the others count as A. `codes` has room for `places` rounded up to a multiple of 64.
    static void run(const std::uint8_t* bytes, std::int64_t places, std::int64_t present, int shift,
                    std::uint16_t* codes) noexcept {
        // Codes of one, two and four bases fit a byte, so that most of the work is done on bytes.
        std::array<std::uint8_t, room> ones;
        std::array<std::uint8_t, room> twos;
        std::array<std::uint8_t, room> fours;
        const std::int64_t rounded = (places + step - 1) / step * step;
        digits_of(bytes, std::min(rounded + step, present), rounded + step, ones.data());
        for (std::int64_t i = 0; i < rounded + step / 2; ++i) twos[i] = four_times(ones[i]) + ones[i + 1];
        for (std::int64_t i = 0; i < rounded + step / 4; ++i)
            fours[i] = four_times(four_times(twos[i])) + twos[i + 2];
        // Shifts by a constant are done in lanes of 16 bits, others would be done in 32.
        switch (shift) {
            case 14:
                return write_codes<14>(fours.data(), rounded, codes);
            case 12:
                return write_codes<12>(fours.data(), rounded, codes);
            case 10:
                return write_codes<10>(fours.data(), rounded, codes);
            case 8:
                return write_codes<8>(fours.data(), rounded, codes);
            case 6:
                return write_codes<6>(fours.data(), rounded, codes);
            case 4:
                return write_codes<4>(fours.data(), rounded, codes);
            case 2:
                return write_codes<2>(fours.data(), rounded, codes);
            default:
                return write_codes<0>(fours.data(), rounded, codes);
        }
    }

  private:
    // Additions, as no instruction set shifts bytes.
    static std::uint8_t four_times(std::uint8_t number) noexcept {
        const auto twice = static_cast<std::uint8_t>(number + number);
        return static_cast<std::uint8_t>(twice + twice);
    }

    template <int shift>
    static void write_codes(const std::uint8_t* fours, std::int64_t size, std::uint16_t* codes) noexcept {
        for (std::int64_t i = 0; i < size; ++i) {
            const auto first = static_cast<std::uint16_t>(fours[i] << 8);
            const std::uint16_t second = shift < 8 ? fours[i + 4] : 0;
            codes[i] = static_cast<std::uint16_t>(static_cast<std::uint16_t>(first | second) >> shift);
        }
    }

    // The digits of `present` bytes, then zeros up to `size`, a multiple of 64.
    static void digits_of(const std::uint8_t* bytes, std::int64_t present, std::int64_t size,
                          std::uint8_t* digits) noexcept {
        const std::int64_t whole = present / step * step;
        for (std::int64_t i = 0; i < whole; ++i) digits[i] = digit_of(bytes[i]);
        if (whole == size) return;
        std::array<std::uint8_t, step> last;
        last.fill('A');
        std::memcpy(last.data(), bytes + whole, static_cast<std::size_t>(present - whole));
        for (std::int64_t i = 0; i < step; ++i) digits[whole + i] = digit_of(last[i]);
        for (std::int64_t i = whole + step; i < size; ++i) digits[i] = 0;
    }

    static std::uint8_t digit_of(std::uint8_t letter) noexcept {
        // Bits 1 and 2 of the letters A, C, G, T are 0, 1, 3, 2.
        const std::uint8_t bits = (letter >> 1) & 3;
        return static_cast<std::uint8_t>(bits ^ (bits >> 1));
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

// Codes and runs of text[begin, begin + places); the end of the text ends a run like an N. Returns whether
// all places begin with eight bases up to the end of the text. `codes` has room as for CodeBases.
inline bool code_bases_of(Text text, std::int64_t begin, std::int64_t places, std::uint16_t* codes,
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
    return known;
}

}  // namespace fastgenome
