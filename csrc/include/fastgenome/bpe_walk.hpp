// Encoding of a text by the automaton of its merge list: forward over the letters, back over the tokens.
//
// Contract: time linear in the text; nothing is allocated and nothing thrown once a Scratch is prepared.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "alphabet.hpp"
#include "bpe_automaton.hpp"
#include "bpe_border.hpp"
#include "bpe_read_back.hpp"

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
            read_back_.prepare(length);
        }

      private:
        friend class BpeWalk;
        std::unique_ptr<BpeAutomaton::Entry[]> record_;  // what was read since the last certain border
        std::size_t capacity_ = 0;
        std::vector<std::uint8_t> letters_;
        BpeBorder border_;
        BpeReadBack read_back_;
    };

    BpeWalk(const BpeAutomaton& automaton, Scratch& scratch) noexcept
        : automaton_(automaton),
          border_(scratch.border_),
          read_back_(scratch.read_back_),
          record_(scratch.record_.get()),
          letters_(scratch.letters_.data()) {}

    // Writes the ids from `out` on and returns their end; write_single(byte, out) does so for a byte that is
    // no letter.
    template <typename Id, typename WriteSingle>
    Id* encode(Text text, Id* out, WriteSingle&& write_single) noexcept {
        entry_ = BpeAutomaton::start;
        size_ = 0;
        std::int64_t next_attempt = block;
        while (true) {
            const Text now = text.first(std::min(text.size(), static_cast<std::size_t>(block)));
            text = text.subspan(now.size());
            out = read_block(now, out, write_single);
            if (text.empty()) return write_back(size_, out);
            if (size_ < next_attempt) continue;
            // What lies before a certain border is done. The record begins at a border itself.
            const std::int64_t found = border_.find(automaton_, {record_, static_cast<std::size_t>(size_)});
            const std::int64_t border = std::max<std::int64_t>(found, 0);
            out = write_back(border, out);
            size_ = std::copy(record_ + border, record_ + size_, record_) - record_;
            // Where borders stay open for long, the looking for them must not cost more than the reading.
            next_attempt = std::max(block, 2 * size_);
        }
    }

  private:
    using Entry = BpeAutomaton::Entry;
    static constexpr std::int64_t block = 8192;
    static constexpr std::int64_t worth_parting = 64;  // letters

    template <typename Id, typename WriteSingle>
    Id* read_block(Text text, Id* out, WriteSingle& write_single) noexcept {
        const auto size = static_cast<std::int64_t>(text.size());
        const bool is_all_letters = automaton_.letters().number_all(text, letters_);
        for (std::int64_t begin = 0; begin < size; ++begin) {
            std::int64_t end = size;
            if (!is_all_letters) {
                const void* const found =
                    std::memchr(letters_ + begin, BpeLetters::none, static_cast<std::size_t>(size - begin));
                if (found != nullptr) end = static_cast<const std::uint8_t*>(found) - letters_;
            }
            follow(letters_ + begin, end - begin);
            if (end < size) {
                out = write_single(text[static_cast<std::size_t>(end)], write_back(size_, out));
                entry_ = BpeAutomaton::start;
                size_ = 0;
            }
            begin = end;
        }
        return out;
    }

    // Records the entries of the next letters.
    void follow(const std::uint8_t* letters, std::int64_t size) noexcept {
        Entry* const record = record_ + size_;
        std::int64_t done = 0;
        if (size >= worth_parting) {
            const std::int64_t part = size / 4;
            follow_four(letters, record, part);
            done = 4 * part;
            // The first part began in its true state. Carry it into the others until the states agree.
            for (std::int64_t begin = part; begin < done; begin += part) {
                entry_ = record[begin - 1];
                for (std::int64_t i = begin; i < done; ++i) {
                    entry_ = automaton_.step(entry_, letters[i]);
                    const bool agrees = BpeAutomaton::state(entry_) == BpeAutomaton::state(record[i]);
                    record[i] = entry_;
                    if (agrees) break;
                }
            }
            entry_ = record[done - 1];
        }
        for (; done < size; ++done) record[done] = entry_ = automaton_.step(entry_, letters[done]);
        size_ += size;
    }

    // Four parts at once, so that their look-ups overlap; all but the first as if a text began there.
    void follow_four(const std::uint8_t* letters, Entry* record, std::int64_t part) const noexcept {
        Entry first = entry_;
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
        if (size >= worth_parting && size <= BpeReadBack::maximum)
            return read_back_.write(automaton_, record_, size, out);
        // Ids replace entries from the end on: there are not more tokens than letters.
        std::int64_t first = size;
        for (std::int64_t end = size; end > 0;) {
            const std::uint32_t token = BpeAutomaton::token(record_[end - 1]);
            end -= automaton_.length(token);
            record_[--first] = static_cast<Entry>(automaton_.id(token));
        }
        for (; first < size; ++first) *out++ = static_cast<Id>(record_[first]);
        return out;
    }

    const BpeAutomaton& automaton_;
    BpeBorder& border_;
    BpeReadBack& read_back_;
    Entry* record_;
    std::uint8_t* letters_;
    Entry entry_ = BpeAutomaton::start;
    std::int64_t size_ = 0;  // of the record
};

}  // namespace fastgenome
