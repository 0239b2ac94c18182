// Encoding of a text by the automaton of its merge list: forward over the letters, back over the tokens.
//
// Contract: time linear in the text, save where no border is certain for long, which a merge list must be
// made for; nothing is allocated and nothing thrown once a Scratch is prepared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "alphabet.hpp"
#include "bpe_automaton.hpp"
#include "bpe_border.hpp"

namespace fastgenome {

class BpeWalk {
  public:
    class Scratch {
      public:
        // Makes room for a text of this length. What is not needed in the end is never touched.
        void prepare(const BpeAutomaton& automaton, std::int64_t length) {
            const auto size = static_cast<std::size_t>(length) + 1;
            if (capacity_ < size) {
                record_ = std::make_unique_for_overwrite<BpeAutomaton::Entry[]>(size);
                capacity_ = size;
            }
            letters_.resize(block);
            border_.prepare(automaton);
        }

      private:
        friend class BpeWalk;
        std::unique_ptr<BpeAutomaton::Entry[]> record_;  // what was read since the last certain border
        std::size_t capacity_ = 0;
        std::vector<std::uint8_t> letters_;
        BpeBorder border_;
    };

    BpeWalk(const BpeAutomaton& automaton, Scratch& scratch) noexcept
        : automaton_(automaton), scratch_(scratch) {}

    // Encodes the letters at the beginning of `text`, up to the first byte that is none, and moves `text`
    // behind them. Returns the end of the ids written from `out` on.
    template <typename Id>
    Id* encode_letters(Text& text, Id* out) noexcept {
        Entry entry = BpeAutomaton::start;
        std::int64_t size = 0;  // of the record
        std::int64_t next_attempt = block;
        Entry* const record = scratch_.record_.get();
        while (true) {
            const std::int64_t read = read_letters(text);
            entry = follow(entry, record + size, read);
            size += read;
            text = text.subspan(static_cast<std::size_t>(read));
            if (text.empty() || read < block) return write_back(size, out);
            if (size < next_attempt) continue;
            // What lies before a certain border is done. The record begins at a border itself.
            const std::int64_t border = std::max<std::int64_t>(
                0, scratch_.border_.find(automaton_, {record, static_cast<std::size_t>(size)}));
            out = write_back(border, out);
            size = std::copy(record + border, record + size, record) - record;
            next_attempt = std::max(block, 2 * size);
        }
    }

  private:
    using Entry = BpeAutomaton::Entry;
    static constexpr std::int64_t block = 8192;

    // Numbers of the letters at the beginning of `text`, one block at most.
    std::int64_t read_letters(Text text) noexcept {
        const auto size = std::min(static_cast<std::int64_t>(text.size()), block);
        std::uint8_t* const letters = scratch_.letters_.data();
        std::int64_t i = 0;
        for (; i < size; ++i) {
            letters[i] = automaton_.letter(text[static_cast<std::size_t>(i)]);
            if (letters[i] == BpeAutomaton::no_letter) break;
        }
        return i;
    }

    // Records the entries of the next `size` letters; returns the last one.
    Entry follow(Entry entry, Entry* record, std::int64_t size) noexcept {
        const std::uint8_t* const letters = scratch_.letters_.data();
        std::int64_t done = 0;
        constexpr std::int64_t worth_parting = 64;
        if (size >= worth_parting) {
            const std::int64_t part = size / 4;
            follow_four(entry, record, part);
            done = 4 * part;
            // The first part began in its true state. Carry it into the others until the states agree.
            for (std::int64_t begin = part; begin < done; begin += part) {
                entry = record[begin - 1];
                for (std::int64_t i = begin; i < done; ++i) {
                    entry = automaton_.step(entry, letters[i]);
                    const bool agrees = BpeAutomaton::state(entry) == BpeAutomaton::state(record[i]);
                    record[i] = entry;
                    if (agrees) break;
                }
            }
            entry = record[done - 1];
        }
        for (; done < size; ++done) record[done] = entry = automaton_.step(entry, letters[done]);
        return entry;
    }

    // Four parts at once, so that their look-ups overlap; all but the first as if a text began there.
    void follow_four(Entry first, Entry* record, std::int64_t part) const noexcept {
        const std::uint8_t* const letters = scratch_.letters_.data();
        Entry second = BpeAutomaton::start;
        Entry third = BpeAutomaton::start;
        Entry fourth = BpeAutomaton::start;
        for (std::int64_t i = 0; i < part; ++i) {
            record[i] = first = automaton_.step(first, letters[i]);
            record[i + part] = second = automaton_.step(second, letters[i + part]);
            record[i + 2 * part] = third = automaton_.step(third, letters[i + 2 * part]);
            record[i + 3 * part] = fourth = automaton_.step(fourth, letters[i + 3 * part]);
        }
    }

    // Writes the ids of the record's first `size` letters, which must end at a border.
    template <typename Id>
    Id* write_back(std::int64_t size, Id* out) noexcept {
        Entry* const record = scratch_.record_.get();
        // Ids replace entries from the end on: there are not more tokens than letters.
        std::int64_t first = size;
        for (std::int64_t end = size; end > 0;) {
            const std::uint32_t token = BpeAutomaton::token(record[end - 1]);
            end -= automaton_.length(token);
            record[--first] = static_cast<Entry>(automaton_.id(token));
        }
        for (; first < size; ++first) *out++ = static_cast<Id>(record[first]);
        return out;
    }

    const BpeAutomaton& automaton_;
    Scratch& scratch_;
};

}  // namespace fastgenome
