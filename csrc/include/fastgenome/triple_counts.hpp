// Counting of k-mers three places at a time.
//
// Increments of counters wait for each other, sums are vector operations. The k-mers that begin at three
// places in a row lie in the k + 2 bases from the first of them on, so one increment stands for three;
// summing over the two bases that a k-mer leaves out gives the counts of each of the three.
//
// Contract: neither throws nor allocates; the text between the bounds is bases alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "instruction_sets.hpp"
#include "kmer_codes.hpp"

namespace fastgenome {

// Of longer k-mers the sums cost more than the increments that they save.
inline constexpr int maximum_triple_k = 4;

// As many triples as a counter of one byte is sure to hold, so that no sum overflows either.
inline constexpr std::int64_t most_triples = 255;

namespace detail {

// Adds the counts of k-mers to `first`, `middle` and `last`, of 4^k counters, which may be the same ones.
// `longer` holds those of the 4^(k + 2) codes of k + 2 bases, at most 255 altogether.
template <int k>
struct AddTriples {
    static constexpr std::int64_t width = std::int64_t{1} << (2 * k);

    template <typename Counter>
    static void run(const std::uint8_t* longer, Counter* first, Counter* middle, Counter* last) noexcept {
        // A product with ones in all bytes has the sum of the bytes in its highest one.
        for (std::int64_t i = 0; i < width; ++i) {
            const std::uint64_t eight =
                word<std::uint64_t>(longer + 16 * i) + word<std::uint64_t>(longer + 16 * i + 8);
            first[i] += static_cast<Counter>((eight * 0x0101010101010101U) >> 56);
        }
        alignas(64) std::array<std::uint8_t, 4 * width> without_first{};
        add_rows<4>(longer, without_first);
        for (std::int64_t i = 0; i < width; ++i) {
            const std::uint32_t four = word<std::uint32_t>(without_first.data() + 4 * i);
            middle[i] += static_cast<Counter>((four * 0x01010101U) >> 24);
        }
        alignas(64) std::array<std::uint8_t, width> without_two{};
        add_rows<4>(without_first.data(), without_two);
        for (std::int64_t i = 0; i < width; ++i) last[i] += without_two[i];
    }

  private:
    template <typename Word>
    static Word word(const std::uint8_t* bytes) noexcept {
        Word value;
        std::memcpy(&value, bytes, sizeof(value));
        return value;
    }

    template <std::size_t count, std::size_t size>
    static void add_rows(const std::uint8_t* rows, std::array<std::uint8_t, size>& sums) noexcept {
        for (std::size_t i = 0; i < size; ++i) {
            std::uint8_t sum = 0;
            for (std::size_t row = 0; row < count; ++row) sum += rows[row * size + i];
            sums[i] = sum;
        }
    }
};

}  // namespace detail

// Counts the k-mers that begin in text[begin, end), as far as triples of places go; text[end + k - 1) must
// exist. `of_phase` gives the 4^k counters of the k-mers that begin at a place. Returns the first place that
// is left.
template <int k, typename Counters>
std::int64_t count_triples(const std::uint8_t* text, std::int64_t begin, std::int64_t end,
                           Counters of_phase) noexcept {
    static_assert(k <= maximum_triple_k && 3 * most_triples <= code_block_places);
    alignas(64) std::array<std::uint16_t, code_block_places> codes;
    alignas(64) std::array<std::uint8_t, 16 << (2 * k)> longer;
    std::int64_t start = begin;
    while (end - start >= 3) {
        const std::int64_t triples = std::min(most_triples, (end - start) / 3);
        dispatch<detail::CodeBases>(text + start, 3 * triples - 2, end + k - 1 - start, code_shift(k + 2),
                                    codes.data());
        longer.fill(0);
        for (std::int64_t i = 0; i < triples; ++i) ++longer[codes[3 * i]];
        dispatch<detail::AddTriples<k>>(static_cast<const std::uint8_t*>(longer.data()), of_phase(start),
                                        of_phase(start + 1), of_phase(start + 2));
        start += 3 * triples;
    }
    return start;
}

}  // namespace fastgenome
