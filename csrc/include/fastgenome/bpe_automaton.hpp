// Byte-pair encoding as a finite automaton: one table look-up per letter, for any merge list.
//
// Why it is exact. A merge never crosses the border between two tokens of the final encoding, so (i) any run
// of tokens of an encoding is itself the encoding of its text, and (ii) two encodings that overlap in a token
// join to the encoding of the joined text. Hence a sequence of tokens is the encoding of its text exactly
// when each neighbouring pair is (bpe_compatibility.hpp), and each text has one such sequence.
//
// How it works. Read a text letter by letter and ask for the last token of the encoding of what was read so
// far. It is the one token that ends here and is compatible with the last token at the place where it
// begins. So a state of the automaton is the set of hypotheses (bpe_hypotheses.hpp) that are still open, one
// for each border at most, and each step closes one hypothesis with a token. With the last tokens of all
// beginnings of a text known, its encoding is read off from its end. Few sets occur: two to four for each
// token of the vocabularies in use.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bpe_compatibility.hpp"
#include "bpe_hypotheses.hpp"
#include "bpe_letters.hpp"
#include "bpe_merges.hpp"
#include "bpe_tokens.hpp"

namespace fastgenome {

class BpeAutomaton {
  public:
    // What a step leads to: the next state above, the token that it completes below.
    using Entry = std::uint32_t;
    static constexpr int token_bits = 14;
    static constexpr std::size_t maximum_tokens = std::size_t{1} << token_bits;
    static constexpr std::size_t maximum_states = std::size_t{1} << (32 - token_bits);
    static constexpr std::size_t maximum_entries = std::size_t{1} << 22;
    static constexpr Entry start = 0;  // an entry whose state is that of a text's beginning

    // Nothing where the list's tables would be too large, or its ids have no definite text.
    static std::optional<BpeAutomaton> make(const MergeList& list) {
        const auto tokens = BpeTokens::find(list);
        if (!tokens || tokens->size() > maximum_tokens) return std::nullopt;
        const BpeCompatibility compatibility(*tokens, list);
        const BpeHypotheses hypotheses(*tokens, compatibility);
        if (!hypotheses.fits() || hypotheses.letters().count() > BpeLetters::maximum) return std::nullopt;
        BpeAutomaton automaton;
        if (!automaton.find_states(hypotheses)) return std::nullopt;
        automaton.letters_ = hypotheses.letters();
        for (std::size_t t = 0; t < tokens->size(); ++t) {
            automaton.ids_.push_back((*tokens)[t].id);
            automaton.lengths_.push_back(static_cast<std::uint32_t>((*tokens)[t].text.size()));
            automaton.longest_ = std::max(automaton.longest_, automaton.lengths_.back());
        }
        return automaton;
    }

    std::size_t states() const noexcept { return entries_.size() >> width_bits_; }
    // The bytes that merges concern.
    const BpeLetters& letters() const noexcept { return letters_; }

    static constexpr std::uint32_t state(Entry entry) noexcept { return entry >> token_bits; }
    static constexpr Entry entry_of(std::size_t state) noexcept {
        return static_cast<Entry>(state << token_bits);
    }
    static constexpr std::uint32_t token(Entry entry) noexcept { return entry & (maximum_tokens - 1); }

    Entry step(Entry entry, std::uint8_t letter) const noexcept {
        return entries_[(static_cast<std::size_t>(state(entry)) << width_bits_) + letter];
    }

    std::int32_t id(std::uint32_t token) const noexcept { return ids_[token]; }
    std::uint32_t length(std::uint32_t token) const noexcept { return lengths_[token]; }
    std::uint32_t longest_token() const noexcept { return longest_; }

  private:
    bool find_states(const BpeHypotheses& hypotheses) {
        const std::size_t letters = hypotheses.letters().count();
        width_bits_ = letters < 2 ? 0 : std::bit_width(letters - 1);
        // A state: its hypotheses, the one of the earliest border first.
        using Key = std::u32string;
        std::unordered_map<Key, std::uint32_t> numbers;
        std::vector<const Key*> states;
        const auto number_of = [&](const Key& key) {
            const auto [found, is_new] = numbers.try_emplace(key, static_cast<std::uint32_t>(states.size()));
            if (is_new) states.push_back(&found->first);
            return found->second;
        };
        Key next;
        if (hypotheses.start() != BpeHypotheses::none)
            next.push_back(static_cast<char32_t>(hypotheses.start()));
        number_of(next);
        for (std::size_t from = 0; from < states.size(); ++from) {
            if (states.size() > maximum_states || states.size() << width_bits_ > maximum_entries)
                return false;
            entries_.resize((from + 1) << width_bits_, start);
            for (std::size_t letter = 0; letter < letters; ++letter) {
                const std::int32_t token = advance(hypotheses, *states[from], letter, next);
                if (token == BpeHypotheses::none) return false;
                entries_[(from << width_bits_) + letter] =
                    number_of(next) << token_bits | static_cast<std::uint32_t>(token);
            }
        }
        return true;
    }

    // One letter on from a state: the next state and the token that ends there.
    static std::int32_t advance(const BpeHypotheses& hypotheses, const std::u32string& from,
                                std::size_t letter, std::u32string& next) {
        next.clear();
        std::int32_t completed = BpeHypotheses::none;
        for (const char32_t hypothesis : from) {
            const auto step = hypotheses.step(static_cast<std::int32_t>(hypothesis), letter);
            if (step.next != BpeHypotheses::none) next.push_back(static_cast<char32_t>(step.next));
            if (step.token != BpeHypotheses::none) completed = step.token;
        }
        if (completed != BpeHypotheses::none && hypotheses.after(completed) != BpeHypotheses::none) {
            next.push_back(static_cast<char32_t>(hypotheses.after(completed)));
        }
        return completed;
    }

    BpeLetters letters_;
    int width_bits_ = 0;
    std::uint32_t longest_ = 1;
    std::vector<Entry> entries_;  // 1 << width_bits_ for each state
    std::vector<std::int32_t> ids_;
    std::vector<std::uint32_t> lengths_;
};

}  // namespace fastgenome
