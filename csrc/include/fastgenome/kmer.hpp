// Codes of k-mers in any text, for their token ids: numbers in base 4, the first base most significant.
//
// Contract: 1 <= k <= 8, so that a code fits 16 bits. `letters` are A, C, G and T in the order of their
// digits. Upper-case letters only: every other byte, N and lower case included, is no base here. Nothing
// throws, allocates or reads outside of what it is given.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

inline constexpr int maximum_k = 8;

namespace detail {

// Window starts handled at once: the block's codes and masks stay in the first-level cache.
inline constexpr std::int64_t block_starts = 1024;
inline constexpr std::int64_t block_bytes = block_starts + maximum_k;

using Letters = std::array<std::uint8_t, 4>;

struct KmerBlock {
    std::array<std::uint16_t, block_bytes> codes;   // code of the k-mer that begins at each position
    std::array<std::uint8_t, block_bytes> unknown;  // 0xFF where that k-mer holds something else than letters
};

// The digit 0 to 3 of each byte; `others` is 0xFF where a byte is none of the letters, else 0. Returns
// whether there is such a byte.
inline bool digits_of(const std::uint8_t* bytes, std::int64_t size, const Letters& letters,
                      std::uint8_t* digits, std::uint8_t* others) noexcept {
    std::uint8_t any = 0;
    for (std::int64_t i = 0; i < size; ++i) {
        const std::uint8_t byte = bytes[i];
        // Selections become vector instructions. Whether the byte is a letter is found by
        // spelling the digit again; a chain of comparisons would become a switch where the letters are known
        // to the compiler, which takes ten times as long.
        const std::uint8_t second = byte == letters[1] ? 0xFF : 0;
        const std::uint8_t third = byte == letters[2] ? 0xFF : 0;
        const std::uint8_t fourth = byte == letters[3] ? 0xFF : 0;
        digits[i] = (second & 1) | (third & 2) | (fourth & 3);
        const std::uint8_t differing = (second & (letters[0] ^ letters[1])) |
                                       (third & (letters[0] ^ letters[2])) |
                                       (fourth & (letters[0] ^ letters[3]));
        others[i] = (letters[0] ^ differing) == byte ? 0 : 0xFF;
        any |= others[i];
    }
    return any != 0;
}

// codes[i] = codes[i] * 4^digits + part[i], over `starts` positions.
inline void append_digits(std::uint16_t* codes, const std::uint8_t* part, int digits,
                          std::int64_t starts) noexcept {
    for (std::int64_t i = 0; i < starts; ++i)
        codes[i] = static_cast<std::uint16_t>(codes[i] << (2 * digits) | part[i]);
}

// Codes of all windows that begin in bytes[0, starts), at most block_starts; reads starts + k - 1 bytes.
// Returns whether any is unknown, and only then sets `unknown`.
struct CodeBlock {
    static bool run(const std::uint8_t* bytes, std::int64_t starts, int k, const Letters* letters,
                    KmerBlock* block) noexcept {
        const std::int64_t size = starts + k - 1;
        // Codes of one, two and four bases fit a byte, so that most of the work is done on bytes.
        std::array<std::uint8_t, block_bytes> ones;
        std::array<std::uint8_t, block_bytes> twos;
        std::array<std::uint8_t, block_bytes> fours;
        const bool any_unknown = digits_of(bytes, size, *letters, ones.data(), block->unknown.data());
        for (std::int64_t i = 0; i + 1 < size; ++i)
            twos[i] = static_cast<std::uint8_t>(ones[i] << 2 | ones[i + 1]);
        for (std::int64_t i = 0; i + 3 < size; ++i)
            fours[i] = static_cast<std::uint8_t>(twos[i] << 4 | twos[i + 2]);

        std::fill_n(block->codes.begin(), starts, std::uint16_t{0});
        int done = 0;
        for (; done + 4 <= k; done += 4) append_digits(block->codes.data(), fours.data() + done, 4, starts);
        if (done + 2 <= k) {
            append_digits(block->codes.data(), twos.data() + done, 2, starts);
            done += 2;
        }
        if (done < k) append_digits(block->codes.data(), ones.data() + done, 1, starts);

        if (any_unknown) {
            std::copy_n(block->unknown.begin(), size, ones.begin());
            for (int offset = 1; offset < k; ++offset) {
                for (std::int64_t i = 0; i < starts; ++i) block->unknown[i] |= ones[i + offset];
            }
        }
        return any_unknown;
    }
};

#ifdef FASTGENOME_X86
// Codes of the k-mers that begin at the bytes of one register; the last k - 1 of them are of no use.
class KmerRegister {
  public:
    FASTGENOME_AVX512 KmerRegister(int k, const Letters& letters) noexcept : k_(k) {
        // A, C, G and T differ in their low four bits, by which a byte looks up its digit and the letter that
        // it has to be. Bytes from 128 on look up zero, and so are no letter.
        alignas(16) std::array<std::uint8_t, 16> spelling{};
        alignas(16) std::array<std::uint8_t, 16> digits{};
        for (std::uint8_t digit = 0; digit < 4; ++digit) {
            spelling[letters[digit] & 15] = letters[digit];
            digits[letters[digit] & 15] = digit;
        }
        spelling[0] = 1;  // zero is no letter either
        spelling_ = _mm512_maskz_broadcast_i32x4(
            0xFFFF, _mm_load_si128(reinterpret_cast<const __m128i*>(spelling.data())));
        digits_ = _mm512_maskz_broadcast_i32x4(
            0xFFFF, _mm_load_si128(reinterpret_cast<const __m128i*>(digits.data())));
    }

    // Sets the codes of the 64 bytes `text`.
    FASTGENOME_AVX512 void set(__m512i text) noexcept {
        const __mmask64 others = _mm512_cmpneq_epu8_mask(_mm512_shuffle_epi8(spelling_, text), text);
        unknown_ = others;
        if (others != 0) {
            for (int offset = 1; offset < k_; ++offset) unknown_ |= others >> offset;
        }
        const __m512i ones = _mm512_shuffle_epi8(digits_, text);
        high_ = _mm512_setzero_si512();
        low_ = first_bases(ones, std::min(k_, 4));
        if (k_ > 4) {
            const int rest = k_ - 4;
            const __m512i first = low_;
            // No shift works on bytes; what a shift of words drags in from a neighbour is masked away.
            const __m512i kept = _mm512_set1_epi8(static_cast<char>(0xFF << (2 * rest)));
            low_ = _mm512_or_si512(_mm512_and_si512(_mm512_slli_epi16(first, 2 * rest), kept),
                                   after(first_bases(ones, rest), 4));
            high_ = _mm512_andnot_si512(kept, _mm512_srli_epi16(first, 8 - 2 * rest));
        }
    }

    // A bit for each k-mer that holds something else than letters.
    FASTGENOME_AVX512 __mmask64 unknown() const noexcept { return unknown_; }

    // The codes at the bytes that `places` names, see places_of.
    FASTGENOME_AVX512 __m512i codes(__m512i places, __mmask64 code_bytes) const noexcept {
        return _mm512_maskz_permutex2var_epi8(code_bytes, low_, places, high_);
    }

    // Indices for `codes`: ids of type Id in a register get the codes at the bytes start, start + stride …
    template <typename Id>
    FASTGENOME_AVX512 static __m512i places_of(int start, int stride) noexcept {
        alignas(64) std::array<std::uint8_t, 64> places{};
        for (std::size_t id = 0; id < 64 / sizeof(Id); ++id) {
            const auto byte = static_cast<std::uint8_t>((start + static_cast<int>(id) * stride) & 63);
            places[id * sizeof(Id)] = byte;
            if constexpr (sizeof(Id) > 1) places[id * sizeof(Id) + 1] = byte | 64;
        }
        return _mm512_load_si512(places.data());
    }

    // The bytes of each id that hold its code.
    template <typename Id>
    static constexpr __mmask64 code_bytes() noexcept {
        if constexpr (sizeof(Id) == 1) return ~__mmask64{0};
        __mmask64 mask = 0;
        for (std::size_t id = 0; id < 64 / sizeof(Id); ++id) mask |= __mmask64{3} << (id * sizeof(Id));
        return mask;
    }

  private:
    // The register moved down by some bytes.
    FASTGENOME_AVX512 static __m512i after(__m512i bytes, int count) noexcept {
        alignas(64) static constexpr auto indices = [] {
            std::array<std::uint8_t, 128> made{};
            for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::uint8_t>(i & 63);
            return made;
        }();
        return _mm512_permutexvar_epi8(_mm512_loadu_si512(indices.data() + count), bytes);
    }

    // Codes of one to four bases, which fit a byte.
    FASTGENOME_AVX512 static __m512i first_bases(__m512i ones, int count) noexcept {
        if (count == 1) return ones;
        const __m512i twos = _mm512_or_si512(_mm512_slli_epi16(ones, 2), after(ones, 1));
        if (count == 2) return twos;
        if (count == 3) return _mm512_or_si512(_mm512_slli_epi16(twos, 2), after(ones, 2));
        return _mm512_or_si512(_mm512_slli_epi16(twos, 4), after(twos, 2));
    }

    int k_;
    __m512i spelling_;
    __m512i digits_;
    __m512i low_;
    __m512i high_;
    __mmask64 unknown_;
};
#endif

}  // namespace detail

}  // namespace fastgenome
