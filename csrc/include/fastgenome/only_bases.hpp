// Whether letters are nothing but A, C, G, T and N.
//
// Contract: nothing here throws or allocates. The distance to the nearest of the five letters is a chain of
// minima, which gcc turns into vector instructions for every instruction set; of comparisons it makes
// branches.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

namespace detail {

#ifdef FASTGENOME_X86
// To be shuffled by letters: the low four bits of a letter look up what it has to be; from 128 on they look
// up zero.
FASTGENOME_AVX512 inline __m512i spelling_of_bases() noexcept {
    alignas(16) static constexpr std::array<std::uint8_t, 16> letters = {1, 'A', 0, 'C', 'T', 0, 0,   'G',
                                                                         0, 0,   0, 0,   0,   0, 'N', 0};
    return _mm512_maskz_broadcast_i32x4(0xFFFF,
                                        _mm_load_si128(reinterpret_cast<const __m128i*>(letters.data())));
}
#endif

// With a mask of 0xDF lower case counts as upper case.
template <std::uint8_t mask>
struct OnlyBases {
    static bool run(const std::uint8_t* bytes, std::int64_t size) noexcept {
        std::uint8_t any = 0;
        for (std::int64_t i = 0; i < size; ++i) {
            const auto letter = static_cast<std::uint8_t>(bytes[i] & mask);
            std::uint8_t distance = 0xFF;
            for (const char base : std::string_view("ACGTN")) {
                distance = std::min(distance, static_cast<std::uint8_t>(letter ^ base));
            }
            any |= distance;
        }
        return any == 0;
    }

#ifdef FASTGENOME_X86
    FASTGENOME_AVX512 static bool run_avx512(const std::uint8_t* bytes, std::int64_t size) noexcept {
        const __m512i spelling = spelling_of_bases();
        const __m512i kept = _mm512_set1_epi8(static_cast<char>(mask));
        __mmask64 others = 0;
        for (std::int64_t i = 0; i < size; i += 64) {
            const __mmask64 rest = size - i < 64 ? ~__mmask64{0} >> (64 - (size - i)) : ~__mmask64{0};
            const __m512i letter = _mm512_and_si512(_mm512_maskz_loadu_epi8(rest, bytes + i), kept);
            others |= _mm512_mask_cmpneq_epu8_mask(rest, _mm512_shuffle_epi8(spelling, letter), letter);
        }
        return others == 0;
    }
#endif
};

}  // namespace detail

// Whether cleaning would leave the text as it is.
inline bool only_upper_bases(Text text) noexcept {
    return dispatch<detail::OnlyBases<0xFF>>(text.data(), static_cast<std::int64_t>(text.size()));
}

inline bool only_bases(Text text) noexcept {
    return dispatch<detail::OnlyBases<0xDF>>(text.data(), static_cast<std::int64_t>(text.size()));
}

}  // namespace fastgenome
