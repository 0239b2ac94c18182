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
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "bpe_merges.hpp"
#include "bpe_tokens.hpp"

namespace fastgenome {

class BpeCompatibility {
  public:
    BpeCompatibility(const BpeTokens& tokens, const MergeList& list)
        : size_(tokens.size()), words_((size_ + 63) / 64), rows_(size_ * words_), merges_of_(size_) {
        sort_by_text(tokens);
        const auto merges = list.merges();
        for (std::size_t rank = 0; rank < merges.size(); ++rank) {
            const Merge& merge = merges[rank];
            const std::int32_t left = tokens.number(merge.left);
            const std::int32_t right = tokens.number(merge.right);
            // Where a pair stands twice in the list only one of its ranks holds.
            if (left >= 0 && right >= 0 &&
                list.rank(merge.left, merge.right) == static_cast<std::int32_t>(rank)) {
                merges_of_[static_cast<std::size_t>(left)].push_back({right, static_cast<std::int32_t>(rank)});
            }
        }
        fill_stable(tokens);
        for (std::size_t left = 0; left < size_; ++left) {
            for (const Neighbour& with : merges_of_[left]) {
                const std::size_t column = column_[static_cast<std::size_t>(with.token)];
                rows_[left * words_ + column / 64] &= ~(std::uint64_t{1} << (column % 64));
            }
        }
    }

    std::size_t words() const noexcept { return words_; }
    // Tokens in the order of their texts, which is the order of the columns: those that begin with one text
    // stand together.
    const std::vector<std::int32_t>& by_text() const noexcept { return by_text_; }

    // The tokens that may follow `left`: one bit for each column.
    std::span<const std::uint64_t> row(std::size_t left) const noexcept {
        return std::span(rows_).subspan(left * words_, words_);
    }

  private:
    struct Neighbour {
        std::int32_t token;
        std::int32_t rank;
    };
    // What one token is to those before it.
    struct RightHand {
        std::uint32_t column;
        std::uint32_t column_of_left;  // of its left part
        std::int32_t left;
        std::int32_t rank;
        std::int32_t key_of_right;
        std::int32_t late_rank;  // the highest rank it waits for where its right part comes about later
    };

    void sort_by_text(const BpeTokens& tokens) {
        by_text_.resize(size_);
        std::iota(by_text_.begin(), by_text_.end(), 0);
        std::sort(by_text_.begin(), by_text_.end(), [&tokens](std::int32_t one, std::int32_t other) {
            return tokens[static_cast<std::size_t>(one)].text < tokens[static_cast<std::size_t>(other)].text;
        });
        column_.resize(size_);
        for (std::size_t i = 0; i < size_; ++i) {
            column_[static_cast<std::size_t>(by_text_[i])] = static_cast<std::uint32_t>(i);
        }
    }

    std::vector<RightHand> right_hands(const BpeTokens& tokens) const {
        std::vector<RightHand> hands;
        for (std::size_t t = tokens.bytes(); t < size_; ++t) {
            const BpeToken& token = tokens[t];
            const BpeToken& left = tokens[static_cast<std::size_t>(token.left)];
            const BpeToken& right = tokens[static_cast<std::size_t>(token.right)];
            const std::int32_t late = right.key >= left.key ? std::max(token.rank, right.key) : token.rank;
            hands.push_back({column_[t], column_[static_cast<std::size_t>(token.left)], token.left, token.rank,
                             right.key, late});
        }
        return hands;
    }

    void fill_stable(const BpeTokens& tokens) {
        const std::vector<RightHand> hands = right_hands(tokens);
        constexpr std::int32_t never = std::numeric_limits<std::int32_t>::max();
        std::vector<std::int32_t> merged(size_, never);  // merged[b]: rank of the merge of (left, b)
        std::vector<std::uint8_t> row(words_ * 64);      // one byte per column
        std::size_t first = 0;                           // the first token whose key is not below that of `left`
        for (std::size_t left = 0; left < size_; ++left) {
            const std::int32_t key = tokens[left].key;
            while (tokens[first].key < key) ++first;
            begin_row(tokens, left, row);
            for (const Neighbour& with : merges_of_[left]) {
                merged[static_cast<std::size_t>(with.token)] = with.rank;
            }
            for (std::size_t t = std::max(first, tokens.bytes()); t < size_; ++t) {
                const RightHand& hand = hands[t - tokens.bytes()];
                const std::int32_t awaited = hand.key_of_right >= key ? hand.late_rank : hand.rank;
                const bool is_crossed = merged[static_cast<std::size_t>(hand.left)] <= awaited;
                row[hand.column] = static_cast<std::uint8_t>(row[hand.column_of_left] & !is_crossed);
            }
            for (const Neighbour& with : merges_of_[left]) merged[static_cast<std::size_t>(with.token)] = never;
            pack(row, left);
        }
    }

    // The pairs of a row whose left part is whole last; the others are decided after.
    void begin_row(const BpeTokens& tokens, std::size_t left, std::vector<std::uint8_t>& row) const {
        const BpeToken& token = tokens[left];
        if (token.left < 0) {
            std::fill(row.begin(), row.end(), std::uint8_t{1});
            return;
        }
        const auto behind = static_cast<std::size_t>(token.right);
        unpack(behind, row);
        const std::int32_t key_of_left = tokens[static_cast<std::size_t>(token.left)].key;
        for (const Neighbour& with : merges_of_[behind]) {
            const std::int32_t key = tokens[static_cast<std::size_t>(with.token)].key;
            const bool is_late = key_of_left > std::max(key, tokens[behind].key);
            const std::int32_t awaited = is_late ? std::max(token.rank, key_of_left) : token.rank;
            if (with.rank < awaited) row[column_[static_cast<std::size_t>(with.token)]] = 0;
        }
    }

    void pack(const std::vector<std::uint8_t>& row, std::size_t left) {
        for (std::size_t word = 0; word < words_; ++word) {
            std::uint64_t bits = 0;
            for (std::size_t i = 0; i < 64; ++i) bits |= std::uint64_t{row[word * 64 + i]} << i;
            rows_[left * words_ + word] = bits;
        }
    }

    void unpack(std::size_t left, std::vector<std::uint8_t>& row) const {
        for (std::size_t word = 0; word < words_; ++word) {
            const std::uint64_t bits = rows_[left * words_ + word];
            for (std::size_t i = 0; i < 64; ++i) row[word * 64 + i] = bits >> i & 1;
        }
    }

    std::size_t size_;
    std::size_t words_;
    std::vector<std::uint64_t> rows_;
    std::vector<std::vector<Neighbour>> merges_of_;  // by left token
    std::vector<std::int32_t> by_text_;
    std::vector<std::uint32_t> column_;
};

}  // namespace fastgenome
