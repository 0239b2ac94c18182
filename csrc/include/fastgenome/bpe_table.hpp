// Byte-pair encoding by table: linear in the text, and equal to merge_by_rank for every proper merge list.
//
// Why it is exact. A merge never crosses the border between two tokens of the final encoding, so (i) any run
// of tokens of an encoding is itself the encoding of its text, and (ii) two encodings that overlap in a token
// join to the encoding of the joined text. Hence a sequence of tokens is the encoding of its text exactly
// when each neighbouring pair is, and a text has one such sequence. It is found by taking the longest token
// each time and falling back to a shorter one, or to the token before, where the pair does not hold. What
// stands before a position is determined by the position alone, so a position that leads nowhere is marked
// and never tried again: the work is linear in the text.
//
// Why the table is cheap. In a proper list merges happen in the order of their ranks. Of a pair (a, b), let
// b, made of c and d, be the part made last: before that, the neighbours at the border were a and c. So
// stable(a, b), that no merge crossed the border until both were whole, follows from stable(a, c) and the
// rank of the merge of a and c; likewise for a. At equal ranks the left merge comes first.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "alphabet.hpp"
#include "bpe_merges.hpp"

namespace fastgenome {

class BpeTable {
  public:
    // Tokens are numbered here by rank: the bytes' tokens first, then the result of each merge.
    static constexpr std::int32_t none = -1;
    static constexpr std::size_t maximum_tokens = 1 << 14;  // 32 MiB of pairs

    class Scratch {
      public:
        void prepare(std::int64_t length) {
            const auto words = static_cast<std::size_t>(length / 64 + 1);
            if (dead_.size() < words) dead_.resize(words);
        }

      private:
        friend class BpeTable;
        std::vector<std::uint64_t> dead_;  // positions from which no way leads on
    };

    // The list must be proper and have at most maximum_tokens tokens.
    explicit BpeTable(const MergeList& list) {
        number_tokens(list);
        fill_stable_pairs();
        grow_trie();
        // Two neighbours that have a merge do not stay apart, whatever its rank.
        for (std::size_t t = bytes_; t < ids_.size(); ++t) clear(parts_[t].left, parts_[t].right);
    }

    // Encodes a piece whose bytes all have tokens; returns the number of ids written, at most piece.size().
    std::int64_t encode(Text piece, std::int32_t* out, Scratch& scratch) const noexcept {
        const auto size = static_cast<std::int64_t>(piece.size());
        if (size == 0) return 0;
        std::fill_n(scratch.dead_.begin(), size / 64 + 1, 0);
        std::int64_t count = 0;
        std::int64_t position = 0;
        std::int32_t candidate = longest_token(piece, 0);
        while (true) {
            const std::int64_t after = candidate == none ? 0 : position + length_[candidate];
            if (candidate == none) {
                // Every byte is a token, so there is always one to take back.
                scratch.dead_[position >> 6] |= std::uint64_t{1} << (position & 63);
                candidate = out[--count];
                position -= length_[candidate];
                candidate = shorter_[candidate];
            } else if (is_dead(scratch, after) || (count > 0 && !holds(out[count - 1], candidate))) {
                candidate = shorter_[candidate];
            } else {
                out[count++] = candidate;
                position = after;
                if (position == size) break;
                candidate = longest_token(piece, position);
            }
        }
        for (std::int64_t i = 0; i < count; ++i) out[i] = ids_[out[i]];
        return count;
    }

  private:
    struct Parts {
        std::int32_t left = none;
        std::int32_t right = none;
    };

    static bool is_dead(const Scratch& scratch, std::int64_t position) noexcept {
        return scratch.dead_[position >> 6] >> (position & 63) & 1;
    }

    bool holds(std::int32_t left, std::int32_t right) const noexcept {
        return pairs_[left * row_ + (right >> 6)] >> (right & 63) & 1;
    }

    void set(std::int32_t left, std::int32_t right, bool value) noexcept {
        pairs_[left * row_ + (right >> 6)] |= std::uint64_t{value} << (right & 63);
    }

    void clear(std::int32_t left, std::int32_t right) noexcept {
        pairs_[left * row_ + (right >> 6)] &= ~(std::uint64_t{1} << (right & 63));
    }

    void number_tokens(const MergeList& list) {
        std::unordered_map<std::int32_t, std::int32_t> numbers;
        for (int byte = 0; byte < 256; ++byte) {
            digits_[byte] = none;
            if (const std::int32_t id = list.byte_token(static_cast<std::uint8_t>(byte)); id >= 0) {
                digits_[byte] = static_cast<std::int32_t>(ids_.size());
                numbers[id] = digits_[byte];
                ids_.push_back(id);
                length_.push_back(1);
            }
        }
        bytes_ = ids_.size();
        parts_.resize(bytes_);
        for (const Merge& merge : list.merges()) {
            const Parts parts{numbers.at(merge.left), numbers.at(merge.right)};
            numbers[merge.result] = static_cast<std::int32_t>(ids_.size());
            ids_.push_back(merge.result);
            parts_.push_back(parts);
            length_.push_back(length_[parts.left] + length_[parts.right]);
        }
    }

    void fill_stable_pairs() {
        const std::size_t size = ids_.size();
        row_ = (size + 63) / 64;
        pairs_.assign(size * row_, 0);
        std::vector<std::vector<std::int32_t>> merges_of(size);  // tokens whose left part is the index
        for (std::size_t t = bytes_; t < size; ++t)
            merges_of[parts_[t].left].push_back(static_cast<std::int32_t>(t));

        constexpr std::int32_t never = std::numeric_limits<std::int32_t>::max();
        std::vector<std::int32_t> merged(size, never);  // merged[b]: the token that (left, b) makes
        for (std::size_t left = 0; left < size; ++left) {
            begin_row(left, merges_of);
            for (const std::int32_t token : merges_of[left]) merged[parts_[token].right] = token;
            // The right part was made last, or is the same token and so comes second.
            for (std::size_t right = std::max(left, bytes_); right < size; ++right) {
                const std::int32_t before = parts_[right].left;
                const bool crossed = merged[before] <= static_cast<std::int32_t>(right);
                set(static_cast<std::int32_t>(left), static_cast<std::int32_t>(right),
                    holds(static_cast<std::int32_t>(left), before) && !crossed);
            }
            for (const std::int32_t token : merges_of[left]) merged[parts_[token].right] = never;
        }
    }

    // The pairs of a row whose left part was made last.
    void begin_row(std::size_t left, const std::vector<std::vector<std::int32_t>>& merges_of) {
        const auto row = pairs_.begin() + static_cast<std::ptrdiff_t>(left * row_);
        if (left < bytes_) {
            for (std::size_t right = 0; right < bytes_; ++right) {
                set(static_cast<std::int32_t>(left), static_cast<std::int32_t>(right), true);
            }
            return;
        }
        const std::int32_t before = parts_[left].right;
        const auto source = pairs_.begin() + static_cast<std::ptrdiff_t>(before * row_);
        std::copy_n(source, row_, row);
        for (const std::int32_t token : merges_of[before]) {
            if (token < static_cast<std::int32_t>(left))
                clear(static_cast<std::int32_t>(left), parts_[token].right);
        }
        // What lies at or beyond `left` is decided by the right part.
        row[static_cast<std::ptrdiff_t>(left / 64)] &= (std::uint64_t{1} << (left % 64)) - 1;
        std::fill(row + static_cast<std::ptrdiff_t>(left / 64) + 1, row + static_cast<std::ptrdiff_t>(row_),
                  0);
    }

    // The trie holds the tokens that occur in encodings: those whose parts are stable neighbours until they
    // merge.
    void grow_trie() {
        children_.assign(bytes_, 0);
        longest_.assign(1, none);
        shorter_.assign(ids_.size(), none);
        std::vector<bool> occurs(ids_.size(), true);
        std::vector<std::vector<std::int32_t>> spelling(ids_.size());
        std::vector<std::int32_t> own(1, none);  // the token that ends at each node
        for (std::size_t t = 0; t < ids_.size(); ++t) {
            const Parts parts = parts_[t];
            if (t < bytes_) {
                spelling[t] = {static_cast<std::int32_t>(t)};
            } else {
                occurs[t] = occurs[parts.left] && occurs[parts.right] && holds(parts.left, parts.right);
                spelling[t] = spelling[parts.left];
                spelling[t].insert(spelling[t].end(), spelling[parts.right].begin(),
                                   spelling[parts.right].end());
            }
            if (occurs[t]) own[add_path(spelling[t], own)] = static_cast<std::int32_t>(t);
        }
        settle_longest(own);
    }

    std::size_t add_path(const std::vector<std::int32_t>& digits, std::vector<std::int32_t>& own) {
        std::size_t node = 0;
        for (const std::int32_t digit : digits) {
            const std::size_t slot = node * bytes_ + static_cast<std::size_t>(digit);
            if (children_[slot] == 0) {
                children_[slot] = static_cast<std::int32_t>(own.size());
                own.push_back(none);
                children_.resize(own.size() * bytes_, 0);
            }
            node = static_cast<std::size_t>(children_[slot]);
        }
        return node;
    }

    void settle_longest(const std::vector<std::int32_t>& own) {
        longest_.assign(own.size(), none);
        // A node's number is above its parent's, so one pass from the root downwards is enough.
        for (std::size_t node = 0; node < own.size(); ++node) {
            if (own[node] != none) {
                shorter_[own[node]] = longest_[node];
                longest_[node] = own[node];
            }
            for (std::size_t digit = 0; digit < bytes_; ++digit) {
                if (const std::int32_t child = children_[node * bytes_ + digit]; child != 0) {
                    longest_[child] = longest_[node];
                }
            }
        }
    }

    std::int32_t longest_token(Text piece, std::int64_t position) const noexcept {
        const auto size = static_cast<std::int64_t>(piece.size());
        std::size_t node = 0;
        for (std::int64_t i = position; i < size; ++i) {
            const std::int32_t child = children_[node * bytes_ + static_cast<std::size_t>(digits_[piece[i]])];
            if (child == 0) break;
            node = static_cast<std::size_t>(child);
        }
        return longest_[node];
    }

    std::size_t bytes_ = 0;  // number of single-byte tokens, also the width of a trie node
    std::array<std::int32_t, 256> digits_{};
    std::vector<std::int32_t> ids_;      // by token number
    std::vector<std::int32_t> length_;   // in bytes
    std::vector<std::int32_t> shorter_;  // the next shorter token that begins alike, or none
    std::vector<Parts> parts_;
    std::size_t row_ = 0;                 // words per row of pairs
    std::vector<std::uint64_t> pairs_;    // bit (left, right): the two may stand beside each other
    std::vector<std::int32_t> children_;  // node * bytes_ + digit; 0 where there is none
    std::vector<std::int32_t> longest_;   // longest token on the way to each node
};

}  // namespace fastgenome
