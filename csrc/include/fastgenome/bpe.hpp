// The byte-pair tokenizer: pieces of text between white space and unknown characters, each encoded exactly.
//
// Contract: a character without a token is one `unknown` and a hard break; white space is a break without a
// token. A proper merge list (bpe_merges.hpp) of moderate size is encoded by table (bpe_table.hpp), others by
// merging in the order of the ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "alphabet.hpp"
#include "bpe_merges.hpp"
#include "bpe_table.hpp"

namespace fastgenome {

class Bpe {
  public:
    struct Scratch {
        BpeTable::Scratch table;
        MergeScratch merges;
    };

    Bpe(MergeList list, std::int32_t unknown) : list_(std::move(list)), unknown_(unknown) {
        if (list_.merges().size() + 256 <= BpeTable::maximum_tokens && list_.is_proper())
            table_.emplace(list_);
    }

    bool uses_table() const noexcept { return table_.has_value(); }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch& scratch, std::int64_t length) const {
        if (table_) {
            scratch.table.prepare(length);
        } else {
            scratch.merges.prepare(length);
        }
    }

    template <typename Id>
    std::int64_t encode(Text text, Id* ids, Scratch& scratch) const noexcept {
        std::vector<std::int32_t> temporary(text.size());
        std::int32_t* out = temporary.data();
        std::int32_t* end = out;
        for (std::size_t position = 0; position < text.size();) {
            const std::size_t begin = position;
            while (position < text.size() && list_.byte_token(text[position]) >= 0) ++position;
            if (position > begin) {
                const Text piece = text.subspan(begin, position - begin);
                end += table_ ? table_->encode(piece, end, scratch.table)
                              : merge_by_rank(list_, piece, end, scratch.merges);
            } else if (!is_break(text[position++])) {
                *end++ = unknown_;
            }
        }
        std::copy(out, end, ids);
        return end - out;
    }

  private:
    // Unicode's White_Space within Latin-1: unlike is_space, without the four separators.
    static constexpr bool is_break(std::uint8_t byte) noexcept {
        return is_space(byte) && !(byte >= 0x1C && byte <= 0x1F);
    }

    MergeList list_;
    std::int32_t unknown_;
    std::optional<BpeTable> table_;
};

}  // namespace fastgenome
