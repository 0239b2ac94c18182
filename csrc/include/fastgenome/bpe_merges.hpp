// A list of byte-pair merges and the plain algorithm that defines its encoding.
//
// The encoding of a piece of text: begin with one token per byte; as long as two neighbours have a merge,
// perform the one of lowest rank, the leftmost where several have it. A merge's rank is its place in the
// list; token ids are apart from ranks. `merge_by_rank` does exactly this for any list, in O(n log n).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "alphabet.hpp"

namespace fastgenome {

struct Merge {
    std::int32_t left = 0;
    std::int32_t right = 0;
    std::int32_t result = 0;

    friend bool operator==(const Merge&, const Merge&) = default;
};

// Immutable once made, so that threads share it.
class MergeList {
  public:
    // `bytes` holds the token id of each single byte, or -1 where the vocabulary has none. Where one pair
    // stands twice in the list the later rank holds. Throws std::invalid_argument on a negative id.
    MergeList(std::span<const std::int32_t> bytes, std::vector<Merge> merges) : merges_(std::move(merges)) {
        if (bytes.size() != bytes_.size()) throw std::invalid_argument("bytes must have 256 entries");
        std::copy(bytes.begin(), bytes.end(), bytes_.begin());
        ranks_.reserve(merges_.size());
        for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
            const Merge& merge = merges_[rank];
            if (std::min({merge.left, merge.right, merge.result}) < 0) {
                throw std::invalid_argument("a merge has a negative token id");
            }
            ranks_[key(merge.left, merge.right)] = static_cast<std::int32_t>(rank);
        }
    }

    std::span<const Merge> merges() const noexcept { return merges_; }
    std::int32_t byte_token(std::uint8_t byte) const noexcept { return bytes_[byte]; }

    // Rank of the merge of two neighbours, or -1.
    std::int32_t rank(std::int32_t left, std::int32_t right) const noexcept {
        const auto found = ranks_.find(key(left, right));
        return found == ranks_.end() ? -1 : found->second;
    }

    friend bool operator==(const MergeList& one, const MergeList& other) noexcept {
        return one.bytes_ == other.bytes_ && one.merges_ == other.merges_;
    }

  private:
    static std::uint64_t key(std::int32_t left, std::int32_t right) noexcept {
        return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
               static_cast<std::uint32_t>(right);
    }

    std::array<std::int32_t, 256> bytes_{};
    std::vector<Merge> merges_;
    std::unordered_map<std::uint64_t, std::int32_t> ranks_;
};

// Working memory of merge_by_rank for one piece.
class MergeScratch {
  public:
    void prepare(std::int64_t length) {
        const auto size = static_cast<std::size_t>(length);
        if (symbols_.size() < size) symbols_.resize(size);
        // One candidate per neighbouring pair, and at most two new ones with each of the merges.
        candidates_.reserve(3 * size);
    }

    // Rank of the last merge that was performed; of no meaning where there was none.
    std::int32_t last_rank() const noexcept { return last_rank_; }

  private:
    template <typename Id>
    friend std::int64_t merge_by_rank(const MergeList&, Text, Id*, MergeScratch&) noexcept;

    struct Symbol {
        std::int32_t token;  // -1 once merged into its left neighbour
        std::int64_t previous;
        std::int64_t next;
    };
    struct Candidate {
        std::int32_t rank;
        std::int64_t left;
        // Heap order: the lowest rank first, the leftmost among equals.
        friend bool operator<(const Candidate& a, const Candidate& b) noexcept {
            return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
        }
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> candidates_;
    std::int32_t last_rank_ = -1;
};

// Encodes a piece whose bytes all have tokens; returns the number of ids written, at most piece.size().
template <typename Id>
std::int64_t merge_by_rank(const MergeList& list, Text piece, Id* out, MergeScratch& scratch) noexcept {
    auto& symbols = scratch.symbols_;
    auto& candidates = scratch.candidates_;
    const auto size = static_cast<std::int64_t>(piece.size());
    candidates.clear();
    for (std::int64_t i = 0; i < size; ++i) symbols[i] = {list.byte_token(piece[i]), i - 1, i + 1};

    const auto rank_at = [&](std::int64_t left) {
        const std::int64_t right = symbols[left].next;
        return right < size ? list.rank(symbols[left].token, symbols[right].token) : -1;
    };
    const auto consider = [&](std::int64_t left) {
        if (const std::int32_t rank = rank_at(left); rank >= 0) {
            candidates.push_back({rank, left});
            std::push_heap(candidates.begin(), candidates.end());
        }
    };
    for (std::int64_t i = 0; i + 1 < size; ++i) consider(i);
    while (!candidates.empty()) {
        std::pop_heap(candidates.begin(), candidates.end());
        const auto [rank, left] = candidates.back();
        candidates.pop_back();
        // The pair may have gone since it was found.
        if (symbols[left].token < 0 || rank_at(left) != rank) continue;
        const std::int64_t right = symbols[left].next;
        symbols[left].token = list.merges()[rank].result;
        scratch.last_rank_ = rank;
        symbols[left].next = symbols[right].next;
        symbols[right].token = -1;
        if (symbols[left].next < size) symbols[symbols[left].next].previous = left;
        if (symbols[left].previous >= 0) consider(symbols[left].previous);
        consider(left);
    }
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < size; i = symbols[i].next) out[count++] = static_cast<Id>(symbols[i].token);
    return count;
}

}  // namespace fastgenome
