// Whether letters are nothing but A, C, G, T and N.
//
// Contract: nothing here throws or allocates. The distance to the nearest of the five letters is a chain of
// minima, which gcc turns into vector instructions for every instruction set; comparisons it does not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

namespace detail {

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
};

}  // namespace detail

inline bool only_upper_bases(Text text) noexcept {
    return dispatch<detail::OnlyBases<0xFF>>(text.data(), static_cast<std::int64_t>(text.size()));
}

inline bool only_bases(Text text) noexcept {
    return dispatch<detail::OnlyBases<0xDF>>(text.data(), static_cast<std::int64_t>(text.size()));
}

}  // namespace fastgenome
