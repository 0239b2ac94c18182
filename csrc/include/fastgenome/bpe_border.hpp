// Borders between tokens that are certain before the rest of a text is known.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bpe_automaton.hpp"

namespace fastgenome {

class BpeBorder {
  public:
    // May allocate.
    void prepare(const BpeAutomaton& automaton) {
        const std::size_t window = std::bit_ceil(std::size_t{automaton.longest_token()} + 1);
        if (pending_.size() < window) pending_.assign(window, 0);
    }

    // `record` holds the entries of successive letters. Returns how many of them lie before the last place
    // that is a border of the encoding whatever letters follow, or -1 where this depends on letters before
    // the record.
    std::int64_t find(const BpeAutomaton& automaton, std::span<const BpeAutomaton::Entry> record) noexcept {
        const auto size = static_cast<std::int64_t>(record.size());
        // The token that comes to lie across the end begins at one of these places.
        const std::int64_t window = std::int64_t{automaton.longest_token()} - 1;
        if (window > size) return -1;
        for (std::int64_t i = 0; i <= window; ++i) pending(size - i) = 1;
        // Follow the tokens back from all of them until they meet.
        std::int64_t count = window + 1;
        for (std::int64_t place = size;; --place) {
            if (pending(place) == 0) continue;
            pending(place) = 0;
            if (count == 1) return place;
            const BpeAutomaton::Entry entry = record[static_cast<std::size_t>(place - 1)];
            const std::int64_t before = place - automaton.length(BpeAutomaton::token(entry));
            if (before < 0) {
                std::fill(pending_.begin(), pending_.end(), std::uint8_t{0});
                return -1;
            }
            count -= pending(before);
            pending(before) = 1;
        }
    }

  private:
    std::uint8_t& pending(std::int64_t place) noexcept {
        return pending_[static_cast<std::size_t>(place) & (pending_.size() - 1)];
    }

    std::vector<std::uint8_t> pending_;  // a ring of places, all 0 between calls
};

}  // namespace fastgenome
