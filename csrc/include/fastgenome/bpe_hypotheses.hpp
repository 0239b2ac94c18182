// Hypotheses about a text that is read from left to right: here a token ended, and the next one has begun.
//
// A hypothesis is a place in the trie of tokens, reached by the letters since the border, and the tokens
// beyond it that are compatible with the one before the border. Two that agree in both are one, so their
// number is a small multiple of the number of tokens.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "bpe_compatibility.hpp"
#include "bpe_letters.hpp"
#include "bpe_tokens.hpp"

namespace fastgenome {

class BpeHypotheses {
  public:
    static constexpr std::int32_t none = -1;
    static constexpr std::size_t maximum_children = std::size_t{1} << 22;  // 16 MiB
    static constexpr std::size_t maximum_steps = std::size_t{1} << 23;     // 64 MiB

    struct Step {
        std::int32_t next = none;   // the hypothesis after one more letter
        std::int32_t token = none;  // the token that this letter makes complete
    };

    BpeHypotheses(const BpeTokens& tokens, const BpeCompatibility& compatibility)
        : compatibility_(compatibility), anything_(compatibility.words(), ~std::uint64_t{0}) {
        find_letters(tokens);
        if (!grow_trie(tokens)) return;
        start_ = intern(0, beginning);
        std::vector<std::int32_t> behind;
        for (std::size_t which = 0; which < compatibility.classes(); ++which) {
            behind.push_back(intern(0, static_cast<std::int32_t>(which)));
        }
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            after_.push_back(behind[static_cast<std::size_t>(compatibility.class_of(t))]);
        }
        for (std::size_t h = 0; h < hypotheses_.size(); ++h) {
            if (h * width_ > maximum_steps) return;
            expand(h);
        }
        fits_ = true;
    }

    // False where the tables would be too large; nothing else may be asked then.
    bool fits() const noexcept { return fits_; }

    // The bytes of tokens longer than one. No other byte has part in a merge.
    const BpeLetters& letters() const noexcept { return letters_; }

    std::int32_t start() const noexcept { return start_; }
    // The hypothesis that begins behind a token, or none where no letter can follow it as it stands.
    std::int32_t after(std::int32_t token) const noexcept { return after_[static_cast<std::size_t>(token)]; }
    Step step(std::int32_t hypothesis, std::size_t letter) const noexcept {
        return steps_[static_cast<std::size_t>(hypothesis) * width_ + letter];
    }

  private:
    static constexpr std::int32_t beginning = -1;  // the class of what stands before the first token

    struct Node {
        std::int32_t token = none;
        std::uint32_t begin = 0;  // columns of the tokens that go on from here
        std::uint32_t end = 0;
    };
    struct Hypothesis {
        std::int32_t node;
        std::int32_t before;  // a class of tokens that stand before such a border
        std::uint64_t hash;
    };

    void find_letters(const BpeTokens& tokens) {
        std::array<bool, 256> is_letter{};
        for (std::size_t t = tokens.bytes(); t < tokens.size(); ++t) {
            for (const char letter : tokens[t].text) is_letter[static_cast<std::uint8_t>(letter)] = true;
        }
        letters_ = BpeLetters(is_letter);
        width_ = letters_.count();
    }

    bool grow_trie(const BpeTokens& tokens) {
        nodes_.emplace_back();
        children_.assign(width_, 0);
        column_of_.resize(tokens.size());
        const auto& by_text = compatibility_.by_text();
        for (std::size_t column = 0; column < by_text.size(); ++column) {
            const std::int32_t token = by_text[column];
            column_of_[static_cast<std::size_t>(token)] = static_cast<std::uint32_t>(column);
            std::size_t node = 0;
            for (const char byte : tokens[static_cast<std::size_t>(token)].text) {
                const std::uint8_t letter = letters_.number(static_cast<std::uint8_t>(byte));
                if (letter == BpeLetters::none) break;
                extend(nodes_[node], column);
                const std::size_t slot = node * width_ + letter;
                if (children_[slot] == 0) {
                    children_[slot] = static_cast<std::int32_t>(nodes_.size());
                    nodes_.emplace_back();
                    if (nodes_.size() * width_ > maximum_children) return false;
                    children_.resize(nodes_.size() * width_, 0);
                }
                node = static_cast<std::size_t>(children_[slot]);
            }
            if (node != 0) nodes_[node].token = token;
        }
        at_node_.resize(nodes_.size());
        return true;
    }

    static void extend(Node& node, std::size_t column) noexcept {
        if (node.end == 0) node.begin = static_cast<std::uint32_t>(column);
        node.end = static_cast<std::uint32_t>(column + 1);
    }

    std::span<const std::uint64_t> row(std::int32_t before) const noexcept {
        return before == beginning ? std::span<const std::uint64_t>(anything_)
                                   : compatibility_.row(static_cast<std::size_t>(before));
    }

    // Those bits of a row's word that lie in the columns of `node`.
    static std::uint64_t bits(std::span<const std::uint64_t> row, std::size_t word,
                              const Node& node) noexcept {
        std::uint64_t found = row[word];
        if (word == node.begin / 64) found &= ~std::uint64_t{0} << (node.begin % 64);
        if (word == node.end / 64) found &= (std::uint64_t{1} << (node.end % 64)) - 1;
        return found;
    }

    bool is_same(std::int32_t one, std::int32_t other, const Node& node) const noexcept {
        for (std::size_t word = node.begin / 64; word * 64 < node.end; ++word) {
            if (bits(row(one), word, node) != bits(row(other), word, node)) return false;
        }
        return true;
    }

    // The hypothesis at a node behind a token of the class `before`, or none where no compatible token lies
    // beyond.
    std::int32_t intern(std::size_t at, std::int32_t before) {
        const Node& node = nodes_[at];
        const auto allowed = row(before);
        std::uint64_t any = 0;
        std::uint64_t hash = 0;
        for (std::size_t word = node.begin / 64; word * 64 < node.end; ++word) {
            const std::uint64_t found = bits(allowed, word, node);
            any |= found;
            hash = (hash ^ found) * 0x9E3779B97F4A7C15U;
            hash ^= hash >> 32;
        }
        if (any == 0) return none;
        for (const std::int32_t known : at_node_[at]) {
            const Hypothesis& hypothesis = hypotheses_[static_cast<std::size_t>(known)];
            if (hypothesis.hash == hash && is_same(hypothesis.before, before, node)) return known;
        }
        at_node_[at].push_back(static_cast<std::int32_t>(hypotheses_.size()));
        hypotheses_.push_back({static_cast<std::int32_t>(at), before, hash});
        return at_node_[at].back();
    }

    void expand(std::size_t which) {
        const Hypothesis from = hypotheses_[which];
        for (std::size_t letter = 0; letter < width_; ++letter) {
            Step step;
            const std::size_t slot = static_cast<std::size_t>(from.node) * width_ + letter;
            if (const auto child = static_cast<std::size_t>(children_[slot]); child != 0) {
                if (const std::int32_t token = nodes_[child].token; token != none) {
                    const std::uint32_t column = column_of_[static_cast<std::size_t>(token)];
                    if (row(from.before)[column / 64] >> (column % 64) & 1) step.token = token;
                }
                step.next = intern(child, from.before);
            }
            steps_.push_back(step);
        }
    }

    const BpeCompatibility& compatibility_;
    std::vector<std::uint64_t> anything_;
    BpeLetters letters_;
    std::size_t width_ = 0;  // number of letters
    std::vector<Node> nodes_;
    std::vector<std::int32_t> children_;  // width_ per node, 0 where there is none
    std::vector<std::uint32_t> column_of_;
    std::vector<std::vector<std::int32_t>> at_node_;
    std::vector<Hypothesis> hypotheses_;
    std::vector<Step> steps_;  // width_ per hypothesis
    std::vector<std::int32_t> after_;
    std::int32_t start_ = none;
    bool fits_ = false;
};

}  // namespace fastgenome
