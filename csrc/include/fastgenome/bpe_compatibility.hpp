// Which tokens may stand side by side in an encoding: one bit for each pair of tokens that occur.
//
// A pair (a, b) is stable when no merge crosses the border until both are whole. Let b, made of c and d, be
// whole last: the one of the higher key, or b at equal keys, since the left merge comes first. Until a and c
// are whole, all goes as if d were not there. Then a merge of a and c happens if its rank is at most that of
// some merge that b still waits for: the merge of c and d, and those that make d if d comes about later. So
// stable(a, b) follows from stable(a, c). Likewise, a made of y and x is whole last: a merge of x and b
// happens if its rank is below that of the merge of y and x, or of those that make y if y comes about later.
// Two tokens are compatible when they are stable and have no merge themselves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bpe_merges.hpp"
#include "bpe_tokens.hpp"

namespace fastgenome {

class BpeCompatibility {
  public:
    BpeCompatibility(const BpeTokens& tokens, const MergeList& list)
        : size_(tokens.size()), words_((size_ + 63) / 64), merges_of_(size_) {
        const auto merges = list.merges();
        for (std::size_t rank = 0; rank < merges.size(); ++rank) {
            const Merge& merge = merges[rank];
            const std::int32_t left = tokens.number(merge.left);
            const std::int32_t right = tokens.number(merge.right);
            // Where a pair stands twice in the list only one of its ranks holds.
            if (left >= 0 && right >= 0 &&
                list.rank(merge.left, merge.right) == static_cast<std::int32_t>(rank)) {
                merges_of_[static_cast<std::size_t>(left)].push_back(
                    {right, static_cast<std::int32_t>(rank)});
            }
        }
        fill_stable(tokens);
        for (std::size_t left = 0; left < size_; ++left) {
            for (const Neighbour& with : merges_of_[left]) {
                const auto right = static_cast<std::size_t>(with.token);
                stable_[left * words_ + right / 64] &= ~(std::uint64_t{1} << (right % 64));
            }
        }
        sort_by_text(tokens);
        unite_rows();
    }

    // Tokens in the order of their texts, which is the order of the columns: those that begin with one text
    // stand together.
    const std::vector<std::int32_t>& by_text() const noexcept { return by_text_; }

    std::size_t words() const noexcept { return words_; }
    // Tokens are of one class where the same tokens may follow them.
    std::size_t classes() const noexcept { return rows_.size() / words_; }
    std::int32_t class_of(std::size_t token) const noexcept { return class_of_[token]; }
    // The tokens that may follow those of a class: one bit for each column.
    std::span<const std::uint64_t> row(std::size_t which) const noexcept {
        return std::span(rows_).subspan(which * words_, words_);
    }

  private:
    struct Neighbour {
        std::int32_t token;
        std::int32_t rank;
    };
    using Row = std::vector<std::uint8_t>;  // one byte for each token, in the order of their keys

    void fill_stable(const BpeTokens& tokens) {
        stable_.resize(size_ * words_);
        std::vector<std::uint16_t> left_of(size_);
        for (std::size_t t = tokens.bytes(); t < size_; ++t) {
            left_of[t] = static_cast<std::uint16_t>(tokens[t].left);
        }
        Row row(words_ * 64);
        Row has_merge(size_);  // 2 for those that have a merge with the left token
        std::vector<std::int32_t> rank_with(size_);
        std::size_t first = 0;  // the first token whose key is not below that of the left one
        for (std::size_t left = 0; left < size_; ++left) {
            while (tokens[first].key < tokens[left].key) ++first;
            begin_row(tokens, left, row);
            for (const Neighbour& with : merges_of_[left]) {
                const auto right = static_cast<std::size_t>(with.token);
                has_merge[right] = 2;
                rank_with[right] = with.rank;
                row[right] |= 2;
            }
            // Plain pointers: the compiler must take it that a byte written changes any vector.
            std::uint8_t* const states = row.data();
            const std::uint8_t* const marks = has_merge.data();
            const std::uint16_t* const lefts = left_of.data();
            const std::size_t size = size_;
            for (std::size_t t = std::max(first, tokens.bytes()); t < size; ++t) {
                std::uint8_t state = states[lefts[t]];
                if (state > 1) [[unlikely]] {
                    state &= rank_with[lefts[t]] > awaited_by_right(tokens, left, t);
                }
                states[t] = static_cast<std::uint8_t>(state | marks[t]);
            }
            for (const Neighbour& with : merges_of_[left])
                has_merge[static_cast<std::size_t>(with.token)] = 0;
            pack(row, left);
        }
    }

    // The pairs of a row whose left part is whole last; the others are decided after.
    void begin_row(const BpeTokens& tokens, std::size_t left, Row& row) const {
        if (tokens[left].left < 0) {
            std::fill(row.begin(), row.end(), std::uint8_t{1});
            return;
        }
        const auto last = static_cast<std::size_t>(tokens[left].right);
        unpack(last, row);
        for (const Neighbour& with : merges_of_[last]) {
            const auto right = static_cast<std::size_t>(with.token);
            if (with.rank < awaited_by_left(tokens, left, right)) row[right] = 0;
        }
    }

    // The highest rank that `right` waits for once its left part stands beside `left`.
    static std::int32_t awaited_by_right(const BpeTokens& tokens, std::size_t left,
                                         std::size_t right) noexcept {
        const BpeToken& whole = tokens[right];
        const std::int32_t others =
            std::max(tokens[left].key, tokens[static_cast<std::size_t>(whole.left)].key);
        const std::int32_t key = tokens[static_cast<std::size_t>(whole.right)].key;
        return key >= others ? std::max(whole.rank, key) : whole.rank;
    }

    // The same for `left` once its right part stands beside `right`; what is further left comes first.
    static std::int32_t awaited_by_left(const BpeTokens& tokens, std::size_t left,
                                        std::size_t right) noexcept {
        const BpeToken& whole = tokens[left];
        const std::int32_t others =
            std::max(tokens[right].key, tokens[static_cast<std::size_t>(whole.right)].key);
        const std::int32_t key = tokens[static_cast<std::size_t>(whole.left)].key;
        return key > others ? std::max(whole.rank, key) : whole.rank;
    }

    void pack(const Row& row, std::size_t left) noexcept {
        for (std::size_t word = 0; word < words_; ++word) {
            std::uint64_t bits = 0;
            for (std::size_t i = 0; i < 64; i += 8) {
                std::uint64_t eight;
                std::memcpy(&eight, row.data() + word * 64 + i, 8);
                // The product's highest byte has the lowest bit of each byte, in their order.
                bits |= ((eight & lowest_bits) * 0x0102040810204080U >> 56) << i;
            }
            stable_[left * words_ + word] = bits;
        }
    }

    void unpack(std::size_t left, Row& row) const noexcept {
        for (std::size_t word = 0; word < words_; ++word) {
            const std::uint64_t bits = stable_[left * words_ + word];
            for (std::size_t i = 0; i < 64; i += 8) {
                // Byte j keeps bit j alone; adding 127 carries it to the highest bit.
                const std::uint64_t spread = (bits >> i & 0xFF) * lowest_bits & 0x8040201008040201U;
                const std::uint64_t eight = (spread + 0x7F * lowest_bits) >> 7 & lowest_bits;
                std::memcpy(row.data() + word * 64 + i, &eight, 8);
            }
        }
    }

    void sort_by_text(const BpeTokens& tokens) {
        by_text_.resize(size_);
        std::iota(by_text_.begin(), by_text_.end(), 0);
        std::sort(by_text_.begin(), by_text_.end(), [&tokens](std::int32_t one, std::int32_t other) {
            return tokens[static_cast<std::size_t>(one)].text < tokens[static_cast<std::size_t>(other)].text;
        });
    }

    // Rows that occur, each once, with their columns in the order of texts.
    void unite_rows() {
        std::unordered_map<std::string_view, std::int32_t> known;
        Row row(words_ * 64);
        for (std::size_t token = 0; token < size_; ++token) {
            const auto* bytes = reinterpret_cast<const char*>(stable_.data() + token * words_);
            const auto next = static_cast<std::int32_t>(known.size());
            const auto [found, is_new] = known.try_emplace({bytes, words_ * 8}, next);
            class_of_.push_back(found->second);
            if (!is_new) continue;
            unpack(token, row);
            rows_.resize(rows_.size() + words_);
            std::uint64_t* const columns = rows_.data() + rows_.size() - words_;
            for (std::size_t column = 0; column < size_; ++column) {
                const std::uint64_t bit = row[static_cast<std::size_t>(by_text_[column])];
                columns[column / 64] |= bit << (column % 64);
            }
        }
        stable_ = {};
    }

    static constexpr std::uint64_t lowest_bits = 0x0101010101010101U;

    std::size_t size_;
    std::size_t words_;
    std::vector<std::vector<Neighbour>> merges_of_;  // by left token
    std::vector<std::uint64_t> stable_;  // by token, columns in the order of keys; freed at the end
    std::vector<std::int32_t> by_text_;
    std::vector<std::int32_t> class_of_;
    std::vector<std::uint64_t> rows_;
};

}  // namespace fastgenome
