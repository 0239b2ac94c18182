// Many sequences through one encoder into packed ids and offsets.
//
// An Encoder is not changed by encoding, so that threads share it, and offers
//   Scratch                      a type: the working memory of one thread
//   prepare(Scratch&, length)    makes room in it for a text of that length; may allocate
//   bound(length)                the most ids of such a text, never falling with the length
//   encode(Text, Id* out, Scratch&)    writes ids and returns how many; Id is an integer that holds them all
// and, where one text can be cut among threads,
//   encode_parallel(Text, Id* out, int parts)    the same ids
//
// Contract: each sequence becomes prefix, ids, suffix. With `clean`, a text is cleaned first (alphabet.hpp)
// and literals are not looked for. Without, the text goes to the encoder as it is, save that each literal
// spelling of a special token, such as "[MASK]", becomes that token's id and parts the text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "cleaner.hpp"
#include "parallel.hpp"

namespace fastgenome {

// Spellings of special tokens that a raw text may contain; at each place the longest one counts.
class Literals {
  public:
    Literals() = default;

    explicit Literals(std::vector<std::pair<std::string, std::int32_t>> spellings)
        : spellings_(std::move(spellings)) {
        std::erase_if(spellings_, [](const auto& entry) { return entry.first.empty(); });
        std::stable_sort(spellings_.begin(), spellings_.end(), [](const auto& left, const auto& right) {
            return left.first.size() > right.first.size();
        });
        for (const auto& entry : spellings_) {
            const auto first = static_cast<std::uint8_t>(entry.first[0]);
            if (!starts_[first]) first_bytes_.push_back(first);
            starts_[first] = true;
        }
    }

    // Whether a first character of some spelling occurs in `text`.
    bool possible_in(Text text) const noexcept {
        if (text.empty()) return false;
        return std::ranges::any_of(first_bytes_, [text](std::uint8_t byte) {
            return std::memchr(text.data(), byte, text.size()) != nullptr;
        });
    }

    // The literal that begins at text[position], or nullptr.
    const std::pair<std::string, std::int32_t>* at(Text text, std::size_t position) const noexcept {
        if (!starts_[text[position]]) return nullptr;
        const std::size_t left = text.size() - position;
        for (const auto& entry : spellings_) {
            const std::size_t size = entry.first.size();
            if (size <= left && std::memcmp(text.data() + position, entry.first.data(), size) == 0)
                return &entry;
        }
        return nullptr;
    }

  private:
    std::vector<std::pair<std::string, std::int32_t>> spellings_;  // longest first
    std::vector<std::uint8_t> first_bytes_;
    std::array<bool, 256> starts_{};
};

struct BatchLayout {
    std::span<const std::int32_t> prefix;
    std::span<const std::int32_t> suffix;
    const Literals* literals = nullptr;
    bool clean = true;
    int threads = 0;
};

struct BatchResult {
    std::int64_t total = 0;           // ids in use
    std::int64_t first_invalid = -1;  // the first sequence that cleaning found not to be DNA
};

// Encodes a raw text that may hold literals.
template <typename Encoder, typename Id>
std::int64_t encode_raw(const Encoder& encoder, Text text, const Literals& literals, Id* out,
                        typename Encoder::Scratch& scratch) noexcept {
    Id* end = out;
    std::size_t segment = 0;
    for (std::size_t position = 0; position < text.size();) {
        const auto* literal = literals.at(text, position);
        if (literal == nullptr) {
            ++position;
            continue;
        }
        end += encoder.encode(text.subspan(segment, position - segment), end, scratch);
        *end++ = static_cast<Id>(literal->second);
        position += literal->first.size();
        segment = position;
    }
    end += encoder.encode(text.subspan(segment), end, scratch);
    return end - out;
}

// The most ids that one text of `length` characters can become, special tokens included.
template <typename Encoder>
std::int64_t sequence_bound(const Encoder& encoder, std::int64_t length, const BatchLayout& layout) noexcept {
    const auto special = static_cast<std::int64_t>(layout.prefix.size() + layout.suffix.size());
    // A literal is an id of its own, whatever the encoder's bound says; none is longer in ids than in
    // characters.
    return special + (layout.literals != nullptr && !layout.clean ? length : encoder.bound(length));
}

namespace detail {

// Encodes one text, on as many threads as `parts` where the encoder can.
template <typename Encoder, typename Id>
std::int64_t encode_text(const Encoder& encoder, Text text, const BatchLayout& layout, Id* out,
                         typename Encoder::Scratch& scratch, int parts) {
    if (!layout.clean && layout.literals != nullptr && layout.literals->possible_in(text)) {
        encoder.prepare(scratch, static_cast<std::int64_t>(text.size()));
        return encode_raw(encoder, text, *layout.literals, out, scratch);
    }
    if constexpr (requires { encoder.encode_parallel(text, out, parts); }) {
        if (parts > 1) return encoder.encode_parallel(text, out, parts);
    }
    encoder.prepare(scratch, static_cast<std::int64_t>(text.size()));
    return encoder.encode(text, out, scratch);
}

// Encodes texts[range] one behind the other from `out` on; lengths[i] becomes the number of ids of text i.
template <typename Encoder, typename Id>
BatchResult encode_range(const Encoder& encoder, std::span<const Text> texts, Range range,
                         const BatchLayout& layout, Id* out, std::int64_t* lengths, int parts) {
    typename Encoder::Scratch scratch;
    Cleaner cleaner;
    BatchResult result;
    const auto copy = [](std::span<const std::int32_t> ids, Id* to) {
        return std::transform(ids.begin(), ids.end(), to,
                              [](std::int32_t id) { return static_cast<Id>(id); });
    };
    Id* end = out;
    for (std::int64_t i = range.begin; i < range.end; ++i) {
        Text text = texts[i];
        if (layout.clean) {
            text = cleaner.clean(text);
            if (!cleaner.last_was_dna() && result.first_invalid < 0) result.first_invalid = i;
        }
        Id* const begin = end;
        end = copy(layout.prefix, end);
        end += encode_text(encoder, text, layout, end, scratch, parts);
        end = copy(layout.suffix, end);
        lengths[i] = end - begin;
    }
    result.total = end - out;
    return result;
}

// Closes up the regions of ids, each of which has some left free; returns the sums.
template <typename Id>
BatchResult close_up(std::span<const BatchResult> results, std::span<const std::int64_t> regions, Id* ids) {
    BatchResult all;
    for (std::size_t r = 0; r < results.size(); ++r) {
        if (all.total != regions[r]) {
            std::memmove(ids + all.total, ids + regions[r],
                         static_cast<std::size_t>(results[r].total) * sizeof(Id));
        }
        all.total += results[r].total;
        if (all.first_invalid < 0) all.first_invalid = results[r].first_invalid;
    }
    return all;
}

}  // namespace detail

// Encodes `texts` into `ids`, which must hold the sum of their bounds; offsets (texts.size() + 1) become the
// places where each sequence begins, the total last.
template <typename Encoder, typename Id>
BatchResult encode_batch(const Encoder& encoder, std::span<const Text> texts, const BatchLayout& layout,
                         std::span<Id> ids, std::span<std::int64_t> offsets) {
    // What all threads share is made by this one.
    typename Encoder::Scratch first_scratch;
    encoder.prepare(first_scratch, 0);

    const std::vector<Share> shares = share_out(text_weights(texts), layout.threads);
    // Each share writes into a region of its own, as large as its bound.
    std::vector<std::int64_t> regions(shares.size());
    std::int64_t start = 0;
    for (std::size_t s = 0; s < shares.size(); ++s) {
        regions[s] = start;
        for (std::int64_t i = shares[s].range.begin; i < shares[s].range.end; ++i) {
            start += sequence_bound(encoder, static_cast<std::int64_t>(texts[i].size()), layout);
        }
    }
    std::vector<BatchResult> results(shares.size());
    const auto encode = [&](std::size_t s) {
        results[s] = detail::encode_range(encoder, texts, shares[s].range, layout, ids.data() + regions[s],
                                          offsets.data() + 1, shares[s].parts);
    };
    run_parallel(shares.size(), [&](std::size_t s) {
        if (shares[s].parts == 1) encode(s);
    });
    for (std::size_t s = 0; s < shares.size(); ++s) {
        if (shares[s].parts > 1) encode(s);
    }
    const BatchResult result = detail::close_up(std::span<const BatchResult>(results), regions, ids.data());
    offsets[0] = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) offsets[i + 1] += offsets[i];
    return result;
}

}  // namespace fastgenome
