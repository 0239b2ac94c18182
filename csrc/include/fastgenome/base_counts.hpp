// Counts of A, C, G and T in a text.
//
// Contract: never throws, never allocates. Every other byte, N included, is no base and counts nowhere.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

using BaseCounts = std::array<std::int64_t, 4>;  // A, C, G, T

namespace detail {

// One counter of 16 bits for each of A, C, G, T in one word: counting costs one addition per character.
constexpr std::array<std::uint64_t, 256> make_base_increments() noexcept {
    std::array<std::uint64_t, 256> increments{};
    increments['A'] = std::uint64_t{1};
    increments['C'] = std::uint64_t{1} << 16;
    increments['G'] = std::uint64_t{1} << 32;
    increments['T'] = std::uint64_t{1} << 48;
    return increments;
}

inline constexpr auto base_increments = make_base_increments();

struct CountBases {
    // Characters side by side, each with its own counter of a byte: the inner loop is one vector operation.
    static constexpr std::int64_t lanes = 64;
    static constexpr std::int64_t most_rounds = 255;

    static void run(const std::uint8_t* bytes, std::int64_t size, BaseCounts* counts) noexcept {
        std::int64_t done = 0;
        while (size - done >= lanes) {
            const std::int64_t rounds = std::min(most_rounds, (size - done) / lanes);
            add_rounds(bytes + done, rounds, *counts);
            done += rounds * lanes;
        }
        std::uint64_t fields = 0;
        for (; done < size; ++done) fields += base_increments[bytes[done]];
        for (int base = 0; base < 4; ++base) (*counts)[base] += (fields >> (16 * base)) & 0xFFFF;
    }

  private:
    static void add_rounds(const std::uint8_t* bytes, std::int64_t rounds, BaseCounts& counts) noexcept {
        constexpr std::array<std::uint8_t, 4> letters = {'A', 'C', 'G', 'T'};
        std::array<std::array<std::uint8_t, lanes>, 4> partial{};
        for (std::int64_t round = 0; round < rounds; ++round) {
            const std::uint8_t* const row = bytes + round * lanes;
            for (std::size_t base = 0; base < 4; ++base) {
                for (std::int64_t lane = 0; lane < lanes; ++lane)
                    partial[base][lane] += row[lane] == letters[base] ? 1 : 0;
            }
        }
        for (std::size_t base = 0; base < 4; ++base) {
            std::uint32_t sum = 0;
            for (const std::uint8_t count : partial[base]) sum += count;
            counts[base] += sum;
        }
    }
};

}  // namespace detail

inline BaseCounts count_bases(Text text) noexcept {
    BaseCounts counts{};
    dispatch<detail::CountBases>(text.data(), static_cast<std::int64_t>(text.size()), &counts);
    return counts;
}

}  // namespace fastgenome
