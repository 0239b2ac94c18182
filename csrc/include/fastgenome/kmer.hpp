// k-mers as token ids: sliding (any stride) and in blocks (non-overlapping, Nucleotide Transformer).
//
// Contract: 1 <= k <= 8. A k-mer's code is its number in base 4 with the first base most significant and the
// digits in the order of `letters`; `ids` maps the 4^k codes to token ids. Upper-case letters only: every
// other byte, N and lower case included, is no base here. Encoding never throws, never allocates, and keeps
// to its working block on the stack.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "alphabet.hpp"

namespace fastgenome {

inline constexpr int maximum_k = 8;  // a code fits 16 bits

struct NoScratch {};

namespace detail {

// Window starts handled at once: the block's codes and masks stay in the first-level cache.
inline constexpr std::int64_t block_starts = 1024;
inline constexpr std::int64_t block_bytes = block_starts + maximum_k;

using Letters = std::array<std::uint8_t, 4>;

struct KmerBlock {
    std::array<std::uint16_t, block_bytes> codes;   // code of the k-mer that begins at each position
    std::array<std::uint8_t, block_bytes> unknown;  // 0xFF where that k-mer holds something else than letters
};

// The digit 0 to 3 of each byte; `others` is 0xFF where a byte is none of the letters, else 0. Returns
// whether there is such a byte.
inline bool digits_of(const std::uint8_t* bytes, std::int64_t size, Letters letters, std::uint8_t* digits,
                      std::uint8_t* others) noexcept {
    std::uint8_t any = 0;
    for (std::int64_t i = 0; i < size; ++i) {
        const std::uint8_t byte = bytes[i];
        // Selections become vector instructions, see is_clean. Whether the byte is a letter is found by
        // spelling the digit again; a chain of comparisons would become a switch where the letters are known
        // to the compiler, which takes ten times as long.
        const std::uint8_t second = byte == letters[1] ? 0xFF : 0;
        const std::uint8_t third = byte == letters[2] ? 0xFF : 0;
        const std::uint8_t fourth = byte == letters[3] ? 0xFF : 0;
        digits[i] = (second & 1) | (third & 2) | (fourth & 3);
        const std::uint8_t differing = (second & (letters[0] ^ letters[1])) |
                                       (third & (letters[0] ^ letters[2])) |
                                       (fourth & (letters[0] ^ letters[3]));
        others[i] = (letters[0] ^ differing) == byte ? 0 : 0xFF;
        any |= others[i];
    }
    return any != 0;
}

// codes[i] = codes[i] * 4^digits + part[i], over `starts` positions.
inline void append_digits(std::uint16_t* codes, const std::uint8_t* part, int digits,
                          std::int64_t starts) noexcept {
    for (std::int64_t i = 0; i < starts; ++i)
        codes[i] = static_cast<std::uint16_t>(codes[i] << (2 * digits) | part[i]);
}

// Codes of all windows that begin in bytes[0, starts); reads starts + k - 1 bytes. Returns whether any is
// unknown, and only then sets `unknown`.
inline bool code_block(const std::uint8_t* bytes, std::int64_t starts, int k, Letters letters,
                       KmerBlock& block) noexcept {
    const std::int64_t size = starts + k - 1;
    // Codes of one, two and four bases fit a byte, so that most of the work is done on bytes.
    std::array<std::uint8_t, block_bytes> ones;
    std::array<std::uint8_t, block_bytes> twos;
    std::array<std::uint8_t, block_bytes> fours;
    const bool any_unknown = digits_of(bytes, size, letters, ones.data(), block.unknown.data());
    for (std::int64_t i = 0; i + 1 < size; ++i)
        twos[i] = static_cast<std::uint8_t>(ones[i] << 2 | ones[i + 1]);
    for (std::int64_t i = 0; i + 3 < size; ++i)
        fours[i] = static_cast<std::uint8_t>(twos[i] << 4 | twos[i + 2]);

    std::fill_n(block.codes.begin(), starts, std::uint16_t{0});
    int done = 0;
    for (; done + 4 <= k; done += 4) append_digits(block.codes.data(), fours.data() + done, 4, starts);
    if (done + 2 <= k) {
        append_digits(block.codes.data(), twos.data() + done, 2, starts);
        done += 2;
    }
    if (done < k) append_digits(block.codes.data(), ones.data() + done, 1, starts);

    if (any_unknown) {
        std::copy_n(block.unknown.begin(), size, ones.begin());
        for (int offset = 1; offset < k; ++offset) {
            for (std::int64_t i = 0; i < starts; ++i) block.unknown[i] |= ones[i + offset];
        }
    }
    return any_unknown;
}

}  // namespace detail

// Token t covers the bases [t * stride, t * stride + k); a k-mer with anything but the four letters is
// `unknown`.
class SlidingKmers {
  public:
    using Scratch = NoScratch;

    // Throws std::invalid_argument where the parts do not fit together.
    SlidingKmers(int k, std::int64_t stride, std::string_view letters, std::vector<std::int32_t> ids,
                 std::int32_t unknown)
        : k_(k), stride_(stride), unknown_(unknown), ids_(std::move(ids)) {
        if (k < 1 || k > maximum_k) throw std::invalid_argument("k must lie between 1 and 8");
        if (stride < 1) throw std::invalid_argument("stride must be at least 1");
        if (letters.size() != 4) throw std::invalid_argument("letters must be four characters");
        if (ids_.size() != std::size_t{1} << (2 * k))
            throw std::invalid_argument("ids must have 4^k entries");
        std::copy(letters.begin(), letters.end(), letters_.begin());
        for (std::size_t code = 0; code < ids_.size(); ++code) {
            in_order_ = in_order_ && ids_[code] == ids_[0] + static_cast<std::int32_t>(code);
        }
    }

    int k() const noexcept { return k_; }
    const detail::Letters& letters() const noexcept { return letters_; }

    std::int64_t bound(std::int64_t length) const noexcept {
        return length < k_ ? 0 : (length - k_) / stride_ + 1;
    }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    std::int64_t encode(Text text, std::int32_t* out, Scratch&) const noexcept { return encode(text, out); }

    std::int64_t encode(Text text, std::int32_t* out) const noexcept {
        const std::int64_t tokens = bound(static_cast<std::int64_t>(text.size()));
        if (tokens == 0) return 0;
        if (stride_ > 2 * k_) {
            // The windows leave most of the text out: look at each by itself.
            for (std::int64_t t = 0; t < tokens; ++t) encode_window(text.data() + t * stride_, out + t);
            return tokens;
        }
        const std::int64_t tokens_per_block = detail::block_starts / stride_;
        for (std::int64_t t = 0; t < tokens; t += tokens_per_block) {
            encode_block(text.data() + t * stride_, std::min(tokens_per_block, tokens - t), out + t);
        }
        return tokens;
    }

  private:
    void encode_window(const std::uint8_t* text, std::int32_t* out) const noexcept {
        std::size_t code = 0;
        bool known = true;
        for (int i = 0; i < k_; ++i) {
            const auto* digit = std::find(letters_.begin(), letters_.end(), text[i]);
            known = known && digit != letters_.end();
            code = code * 4 + static_cast<std::size_t>(digit - letters_.begin()) % 4;
        }
        *out = known ? ids_[code] : unknown_;
    }

    void encode_block(const std::uint8_t* text, std::int64_t tokens, std::int32_t* out) const noexcept {
        detail::KmerBlock block;
        const std::int64_t starts = (tokens - 1) * stride_ + 1;
        const bool any_unknown = detail::code_block(text, starts, k_, letters_, block);
        if (in_order_) {
            const std::int32_t first = ids_[0];
            if (stride_ == 1) {
                for (std::int64_t t = 0; t < tokens; ++t) out[t] = first + block.codes[t];
            } else {
                for (std::int64_t t = 0; t < tokens; ++t) out[t] = first + block.codes[t * stride_];
            }
        } else {
            for (std::int64_t t = 0; t < tokens; ++t) out[t] = ids_[block.codes[t * stride_]];
        }
        if (!any_unknown) return;
        for (std::int64_t t = 0; t < tokens; ++t) out[t] = block.unknown[t * stride_] ? unknown_ : out[t];
    }

    int k_;
    std::int64_t stride_;
    std::int32_t unknown_;
    bool in_order_ = true;  // ids are consecutive, so that no table is needed
    detail::Letters letters_{};
    std::vector<std::int32_t> ids_;
};

// Left to right: a whole k-mer where the next k bytes are bases, else the single character; after anything
// that is no base the frame begins anew. White space parts the text and has no token; a run of other
// characters is one `unknown`.
class BlockKmers {
  public:
    using Scratch = NoScratch;

    // `characters` holds the id of each single character, or -1 where the vocabulary has none.
    BlockKmers(int k, std::string_view letters, std::vector<std::int32_t> ids, std::int32_t unknown,
               std::span<const std::int32_t> characters)
        : kmers_(k, k, letters, std::move(ids), unknown), unknown_(unknown) {
        if (characters.size() != characters_.size())
            throw std::invalid_argument("characters must have 256 entries");
        std::copy(characters.begin(), characters.end(), characters_.begin());
        for (const std::uint8_t letter : kmers_.letters()) {
            if (characters_[letter] < 0)
                throw std::invalid_argument("each of the letters needs an id of its own");
            base_[letter] = true;
        }
    }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    std::int64_t encode(Text text, std::int32_t* out, Scratch&) const noexcept {
        const std::size_t size = text.size();
        std::int32_t* end = out;
        bool in_unknown = false;
        for (std::size_t position = 0; position < size;) {
            const std::size_t run = run_of_bases(text, position);
            if (run > 0) {
                end = encode_run(text.subspan(position, run), end);
                position += run;
                in_unknown = false;
                continue;
            }
            const std::uint8_t byte = text[position++];
            if (characters_[byte] >= 0) {
                *end++ = characters_[byte];
                in_unknown = false;
            } else if (is_space(byte)) {
                in_unknown = false;
            } else if (!in_unknown) {
                *end++ = unknown_;
                in_unknown = true;
            }
        }
        return end - out;
    }

  private:
    std::size_t run_of_bases(Text text, std::size_t begin) const noexcept {
        constexpr std::size_t step = 64;
        std::size_t end = begin;
        while (end + step <= text.size() && all_bases(text.data() + end, step)) end += step;
        while (end < text.size() && base_[text[end]]) ++end;
        return end - begin;
    }

    bool all_bases(const std::uint8_t* bytes, std::size_t size) const noexcept {
        const detail::Letters letters = kmers_.letters();
        std::uint8_t any = 0;
        for (std::size_t i = 0; i < size; ++i) {
            std::uint8_t other = bytes[i] == letters[0] ? 0 : 0xFF;
            other = bytes[i] == letters[1] ? 0 : other;
            other = bytes[i] == letters[2] ? 0 : other;
            other = bytes[i] == letters[3] ? 0 : other;
            any |= other;
        }
        return any == 0;
    }

    std::int32_t* encode_run(Text run, std::int32_t* out) const noexcept {
        std::int32_t* end = out + kmers_.encode(run, out);
        const std::size_t k = static_cast<std::size_t>(kmers_.k());
        for (std::size_t i = run.size() / k * k; i < run.size(); ++i) *end++ = characters_[run[i]];
        return end;
    }

    SlidingKmers kmers_;
    std::int32_t unknown_;
    std::array<std::int32_t, 256> characters_{};
    std::array<bool, 256> base_{};
};

}  // namespace fastgenome
