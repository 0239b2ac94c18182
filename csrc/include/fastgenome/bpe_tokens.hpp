// The tokens that a merge list brings forth, each with the merge that makes it last.
//
// A token occurs in encodings exactly when its own text is encoded as that one token; others never come out,
// whatever the text. The parts of the last merge occur too, so that each token stands on smaller ones.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "alphabet.hpp"
#include "bpe_merges.hpp"

namespace fastgenome {

struct BpeToken {
    std::string text;
    std::int32_t id = -1;
    std::int32_t left = -1;  // numbers of its parts, -1 in the token of a byte
    std::int32_t right = -1;
    std::int32_t rank = -1;  // of the merge of its parts
    // The highest rank among all merges that make it. A merge of lower rank that follows one of higher rank
    // happens at once, so pieces side by side come about in the order of their keys, the left one first among
    // equals.
    std::int32_t key = -1;
};

// Tokens in the order of their keys, those of bytes first, a part always before the whole.
class BpeTokens {
  public:
    static constexpr std::size_t maximum_merges = 1 << 16;
    static constexpr std::size_t maximum_text = 1 << 21;  // bytes of all tokens together

    // Nothing where the list is too large for tables, or where one id stands for two texts.
    static std::optional<BpeTokens> find(const MergeList& list) {
        if (list.merges().size() > maximum_merges) return std::nullopt;
        std::unordered_map<std::int32_t, std::string> texts;
        if (!spell(list, texts)) return std::nullopt;
        BpeTokens tokens;
        tokens.derive(list, texts);
        return tokens;
    }

    std::size_t size() const noexcept { return tokens_.size(); }
    const BpeToken& operator[](std::size_t number) const noexcept { return tokens_[number]; }
    std::size_t bytes() const noexcept { return bytes_; }

    // Number of the token with this id, or -1 where it does not occur.
    std::int32_t number(std::int32_t id) const noexcept {
        const auto found = numbers_.find(id);
        return found == numbers_.end() ? -1 : found->second;
    }

  private:
    using Texts = std::unordered_map<std::int32_t, std::string>;

    static bool spell(const MergeList& list, Texts& texts) {
        for (int byte = 0; byte < 256; ++byte) {
            const std::int32_t id = list.byte_token(static_cast<std::uint8_t>(byte));
            if (id >= 0 && !texts.emplace(id, std::string(1, static_cast<char>(byte))).second) return false;
        }
        std::size_t total = texts.size();
        // A merge may stand before those that make its parts: again until nothing new is found.
        for (bool is_changed = true; is_changed;) {
            is_changed = false;
            for (const Merge& merge : list.merges()) {
                const auto left = texts.find(merge.left);
                const auto right = texts.find(merge.right);
                if (left == texts.end() || right == texts.end()) continue;
                const auto known = texts.find(merge.result);
                const std::size_t length = left->second.size() + right->second.size();
                if (known != texts.end()) {
                    if (known->second.size() != length || !known->second.starts_with(left->second) ||
                        !known->second.ends_with(right->second)) {
                        return false;
                    }
                    continue;
                }
                total += length;
                if (total > maximum_text) return false;
                std::string text = left->second + right->second;
                texts.emplace(merge.result, std::move(text));
                is_changed = true;
            }
        }
        return true;
    }

    void derive(const MergeList& list, const Texts& texts) {
        std::vector<std::pair<std::int32_t, const std::string*>> by_length;
        for (const auto& [id, text] : texts) by_length.emplace_back(id, &text);
        std::sort(by_length.begin(), by_length.end(), [](const auto& one, const auto& other) {
            return one.second->size() != other.second->size() ? one.second->size() < other.second->size()
                                                              : one.first < other.first;
        });
        MergeScratch scratch;
        std::vector<std::int32_t> ids;
        for (const auto& [id, text] : by_length) {
            BpeToken token{*text, id};
            if (text->size() > 1) {
                ids.resize(text->size());
                scratch.prepare(static_cast<std::int64_t>(text->size()));
                const Text piece(reinterpret_cast<const std::uint8_t*>(text->data()), text->size());
                if (merge_by_rank(list, piece, ids.data(), scratch) != 1 || ids[0] != id) continue;
                token.rank = scratch.last_rank();
                const Merge& merge = list.merges()[static_cast<std::size_t>(token.rank)];
                token.left = numbers_.at(merge.left);
                token.right = numbers_.at(merge.right);
                token.key = std::max({token.rank, tokens_[static_cast<std::size_t>(token.left)].key,
                                      tokens_[static_cast<std::size_t>(token.right)].key});
            } else {
                ++bytes_;
            }
            numbers_[id] = static_cast<std::int32_t>(tokens_.size());
            tokens_.push_back(std::move(token));
        }
        sort_by_key();
    }

    // From the order of lengths to the order of keys; both put a part before the whole.
    void sort_by_key() {
        std::vector<std::int32_t> order(tokens_.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [this](std::int32_t one, std::int32_t other) {
            return tokens_[static_cast<std::size_t>(one)].key < tokens_[static_cast<std::size_t>(other)].key;
        });
        std::vector<std::int32_t> place(tokens_.size());
        std::vector<BpeToken> sorted;
        sorted.reserve(tokens_.size());
        for (std::size_t i = 0; i < order.size(); ++i) {
            place[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
            sorted.push_back(std::move(tokens_[static_cast<std::size_t>(order[i])]));
        }
        for (BpeToken& token : sorted) {
            if (token.left < 0) continue;
            token.left = place[static_cast<std::size_t>(token.left)];
            token.right = place[static_cast<std::size_t>(token.right)];
        }
        for (auto& [id, number] : numbers_) number = place[static_cast<std::size_t>(number)];
        tokens_ = std::move(sorted);
    }

    std::vector<BpeToken> tokens_;
    std::unordered_map<std::int32_t, std::int32_t> numbers_;
    std::size_t bytes_ = 0;
};

}  // namespace fastgenome
