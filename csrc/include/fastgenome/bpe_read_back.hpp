// The tokens of a text, read off from its end, four parts of it at once.
//
// Each token tells where the one before it ends, so that a single way back waits for a look-up per token.
// Therefore three more ways begin at places that need not be borders. The way from above soon meets a place
// of theirs, and from there on they are the same.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "bpe_automaton.hpp"

namespace fastgenome {

class BpeReadBack {
  public:
    // Letters of one record: more than a walk leaves open, save for lists made to that end.
    static constexpr std::int64_t maximum = 1 << 15;

    // Makes room for the records of a text of this length; may allocate.
    void prepare(std::int64_t length) {
        const auto size = 2 * static_cast<std::size_t>(std::min(length, maximum));
        if (capacity_ < size) {
            places_ = std::make_unique_for_overwrite<std::uint32_t[]>(size);
            capacity_ = size;
        }
    }

    // Writes the ids of `size` recorded letters, which must end at a border; returns the end of the ids.
    template <typename Id>
    Id* write(const BpeAutomaton& automaton, const BpeAutomaton::Entry* record, std::int64_t size,
              Id* out) noexcept {
        std::array<Way, 4> ways{};
        for (std::int64_t w = 0; w < 4; ++w) {
            const std::int64_t lowest = size / 4 * w;
            const std::int64_t end = w == 3 ? size : size / 4 * (w + 1);
            // Twice the room that its own tokens need: the other half is for those before the ways meet.
            ways[static_cast<std::size_t>(w)] = {end, lowest, 2 * end, 2 * end};
        }
        const auto go_back = [&](Way& way) noexcept {
            places_[static_cast<std::size_t>(--way.first)] = static_cast<std::uint32_t>(way.place);
            way.place -= automaton.length(BpeAutomaton::token(record[way.place - 1]));
        };
        while (ways[0].is_open() && ways[1].is_open() && ways[2].is_open() && ways[3].is_open()) {
            for (Way& way : ways) go_back(way);
        }
        for (Way& way : ways) {
            while (way.is_open()) go_back(way);
        }
        for (std::size_t w = 3; w > 0;) {
            Way& above = ways[w--];
            // The way from above either meets the next one, or passes all of it.
            Way& below = ways[w];
            while (!meets(above, below) && above.place > below.lowest) go_back(above);
            if (below.first != below.last) continue;
            std::swap(above, below);
        }
        for (const Way& way : ways) {
            for (std::int64_t i = way.first; i < way.last; ++i) {
                const std::int64_t place = places_[static_cast<std::size_t>(i)];
                *out++ = static_cast<Id>(automaton.id(BpeAutomaton::token(record[place - 1])));
            }
        }
        return out;
    }

  private:
    // The ends of tokens, places_[first] to places_[last - 1], rising; `place` comes before them.
    struct Way {
        std::int64_t place = 0;
        std::int64_t lowest = 0;
        std::int64_t first = 0;
        std::int64_t last = 0;

        bool is_open() const noexcept { return place > lowest; }
    };

    // Takes from `below` what lies above the next place of the way `above`; whether that is a place of both.
    bool meets(const Way& above, Way& below) const noexcept {
        while (below.last > below.first && places_[static_cast<std::size_t>(below.last - 1)] > above.place) {
            --below.last;
        }
        return below.last > below.first && places_[static_cast<std::size_t>(below.last - 1)] == above.place;
    }

    std::unique_ptr<std::uint32_t[]> places_;
    std::size_t capacity_ = 0;
};

}  // namespace fastgenome
