// Where a long text may be cut, so that its pieces can be encoded apart and the ids are those of the whole.
//
// A cut is exact where a token begins in any case, whatever stands before and behind. To know what stands
// before, the automaton is run from all of its states at once: after some tens of letters of ordinary DNA all
// have come to the same one. From there on the last tokens are certain, and so is the border at which all
// ways on meet (bpe_border.hpp). Where the states do not meet, as in a long repeat, there is no cut.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include "alphabet.hpp"
#include "bpe_automaton.hpp"
#include "bpe_border.hpp"
#include "parallel.hpp"

namespace fastgenome {

class BpeSplit {
  public:
    explicit BpeSplit(const BpeAutomaton& automaton) : automaton_(automaton), seen_(automaton.states()) {
        border_.prepare(automaton);
    }

    // At most `parts` ranges of about equal length that make up the text.
    std::vector<Range> split(Text text, std::int64_t parts) {
        const auto size = static_cast<std::int64_t>(text.size());
        std::vector<Range> ranges;
        std::int64_t begin = 0;
        for (std::int64_t part = 1; part < parts; ++part) {
            // size * part could overflow: quotient and remainder apart.
            const std::int64_t goal = size / parts * part + size % parts * part / parts;
            if (goal <= begin) continue;
            const std::int64_t length = std::min(size - goal, std::max(size / parts, shortest_search));
            const auto cut = find_cut(text.subspan(
                static_cast<std::size_t>(goal), static_cast<std::size_t>(std::min(length, longest_search))));
            if (!cut || goal + *cut >= size) continue;
            ranges.push_back({begin, goal + *cut});
            begin = goal + *cut;
        }
        ranges.push_back({begin, size});
        return ranges;
    }

    // A place in the text where a token begins whatever stands before the text and behind it.
    std::optional<std::int64_t> find_cut(Text text) {
        meet_all_states();
        std::size_t place = 0;
        for (; states_.size() > 1; ++place) {
            if (place == text.size()) return std::nullopt;
            const std::uint8_t letter = automaton_.letters().number(text[place]);
            if (letter == BpeLetters::none) return place;
            advance(letter);
        }
        const std::size_t known_from = place;
        record_.clear();
        std::size_t next_attempt = 2 * std::size_t{automaton_.longest_token()};
        for (BpeAutomaton::Entry entry = states_.front(); place < text.size(); ++place) {
            const std::uint8_t letter = automaton_.letters().number(text[place]);
            if (letter == BpeLetters::none) return place;
            record_.push_back(entry = automaton_.step(entry, letter));
            if (record_.size() < next_attempt) continue;
            const std::int64_t border = border_.find(automaton_, record_);
            if (border >= 0) return static_cast<std::int64_t>(known_from) + border;
            next_attempt *= 2;
        }
        return std::nullopt;
    }

  private:
    static constexpr std::int64_t shortest_search = 256;
    static constexpr std::int64_t longest_search = 1 << 14;

    void meet_all_states() {
        states_.clear();
        for (std::size_t state = 0; state < automaton_.states(); ++state) {
            states_.push_back(BpeAutomaton::entry_of(state));
        }
    }

    // One letter on in all states, each kept once.
    void advance(std::uint8_t letter) {
        ++now_;
        std::size_t kept = 0;
        for (const BpeAutomaton::Entry from : states_) {
            const BpeAutomaton::Entry entry = automaton_.step(from, letter);
            std::uint64_t& seen = seen_[BpeAutomaton::state(entry)];
            if (seen != now_) states_[kept++] = entry;
            seen = now_;
        }
        states_.resize(kept);
    }

    const BpeAutomaton& automaton_;
    BpeBorder border_;
    std::vector<BpeAutomaton::Entry> states_;
    std::vector<std::uint64_t> seen_;  // when each state was last met
    std::uint64_t now_ = 0;
    std::vector<BpeAutomaton::Entry> record_;
};

}  // namespace fastgenome
