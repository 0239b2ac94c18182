// Numbers of a text's letters, for the automaton's table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "alphabet.hpp"
#include "instruction_sets.hpp"

namespace fastgenome {

class BpeLetters {
  public:
    // The number of a byte that is no letter. A list whose merges concern more letters has no automaton.
    static constexpr std::uint8_t none = 0xFF;
    static constexpr std::size_t maximum = none;

    BpeLetters() { number_of_.fill(none); }

    explicit BpeLetters(const std::array<bool, 256>& is_letter) : BpeLetters() {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            if (!is_letter[byte] || count_++ >= maximum) continue;
            const auto number = static_cast<std::uint8_t>(count_ - 1);
            number_of_[byte] = number;
            // All places behind the last letter hold it too, with its number.
            for (std::size_t i = number; i < few; ++i)
                letters_[i] = {static_cast<std::uint8_t>(byte), number};
        }
    }

    std::size_t count() const noexcept { return count_; }
    std::uint8_t number(std::uint8_t byte) const noexcept { return number_of_[byte]; }

    // Writes the number of each byte of `text`; returns whether all are letters.
    bool number_all(Text text, std::uint8_t* out) const noexcept {
        const auto size = static_cast<std::int64_t>(text.size());
        if (count_ == 0) return number_by_table(text, out);
        if (count_ <= 4) return dispatch<Compare<4>>(text.data(), size, letters_.data(), out);
        if (count_ <= few) return dispatch<Compare<few>>(text.data(), size, letters_.data(), out);
        return number_by_table(text, out);
    }

  private:
    static constexpr std::size_t few = 12;

    struct Letter {
        std::uint8_t byte = 0;
        std::uint8_t number = none;
    };

    // Comparison with each of a few letters: vector instructions do that faster than single look-ups.
    template <std::size_t Count>
    struct Compare {
        static bool run(const std::uint8_t* text, std::int64_t size, const Letter* letters,
                        std::uint8_t* out) noexcept {
            std::array<Letter, Count> known;
            for (std::size_t n = 0; n < Count; ++n) known[n] = letters[n];
            std::uint8_t any = 0;
            for (std::int64_t i = 0; i < size; ++i) {
                std::uint8_t number = none;
                for (std::size_t n = 0; n < Count; ++n) {
                    number = text[i] == known[n].byte ? known[n].number : number;
                }
                out[i] = number;
                any |= number;
            }
            return any != none;
        }
    };

    bool number_by_table(Text text, std::uint8_t* out) const noexcept {
        bool is_all = true;
        for (std::size_t i = 0; i < text.size(); ++i) {
            out[i] = number_of_[text[i]];
            is_all &= out[i] != none;
        }
        return is_all;
    }

    std::array<std::uint8_t, 256> number_of_{};
    std::array<Letter, few> letters_{};
    std::size_t count_ = 0;
};

}  // namespace fastgenome
