// Non-overlapping k-mers with single characters between them (Nucleotide Transformer).
//
// Left to right: a whole k-mer where the next k bytes are bases, else the single character; after anything
// that is no base the frame begins anew. White space parts the text and has no token; a run of other
// characters is one `unknown`.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "kmer.hpp"
#include "sliding_kmers.hpp"

namespace fastgenome {

class BlockKmers {
  public:
    using Scratch = NoScratch;

    // `characters` holds the id of each single character, or -1 where the vocabulary has none.
    BlockKmers(int k, std::string_view letters, std::vector<std::int32_t> ids, std::int32_t unknown,
               std::span<const std::int32_t> characters)
        : kmers_(k, k, letters, std::move(ids), unknown), unknown_(unknown) {
        if (characters.size() != characters_.size())
            throw std::invalid_argument("characters must have 256 entries");
        std::copy(characters.begin(), characters.end(), characters_.begin());
        for (const std::uint8_t letter : kmers_.letters()) {
            if (characters_[letter] < 0)
                throw std::invalid_argument("each of the letters needs an id of its own");
            base_[letter] = true;
        }
    }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    template <typename Id>
    std::int64_t encode(Text text, Id* out, Scratch&) const noexcept {
        Id* end = out;
        bool in_unknown = false;
        for (std::size_t position = 0; position < text.size();) {
            if (base_[text[position]]) {
                const std::size_t run = dispatch<CountBases>(text.subspan(position));
                end = encode_run(text.subspan(position, run), end);
                position += run;
                in_unknown = false;
                continue;
            }
            const std::uint8_t byte = text[position++];
            if (characters_[byte] >= 0) {
                *end++ = static_cast<Id>(characters_[byte]);
                in_unknown = false;
            } else if (is_space(byte)) {
                in_unknown = false;
            } else if (!in_unknown) {
                *end++ = static_cast<Id>(unknown_);
                in_unknown = true;
            }
        }
        return end - out;
    }

  private:
    // The number of bases that the text begins with.
    struct CountBases {
        static std::size_t run(Text text) noexcept {
            constexpr std::size_t step = 64;
            std::size_t end = 0;
            while (end + step <= text.size() && are_bases(text.data() + end, step)) end += step;
            while (end < text.size() && are_bases(text.data() + end, 1)) ++end;
            return end;
        }

        static bool are_bases(const std::uint8_t* bytes, std::size_t size) noexcept {
            std::uint8_t any = 0;
            for (std::size_t i = 0; i < size; ++i) {
                // The distance to the nearest letter, see only_bases.hpp.
                std::uint8_t distance = 0xFF;
                for (const char base : std::string_view("ACGT")) {
                    distance = std::min(distance, static_cast<std::uint8_t>(bytes[i] ^ base));
                }
                any |= distance;
            }
            return any == 0;
        }
    };

    template <typename Id>
    Id* encode_run(Text run, Id* out) const noexcept {
        Id* end = out + kmers_.encode(run, out);
        const std::size_t k = static_cast<std::size_t>(kmers_.k());
        for (std::size_t i = run.size() / k * k; i < run.size(); ++i)
            *end++ = static_cast<Id>(characters_[run[i]]);
        return end;
    }

    SlidingKmers kmers_;
    std::int32_t unknown_;
    std::array<std::int32_t, 256> characters_{};
    std::array<bool, 256> base_{};
};

}  // namespace fastgenome
