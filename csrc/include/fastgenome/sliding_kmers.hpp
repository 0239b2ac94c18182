// Sliding k-mers as token ids, at any stride (DNABERT: stride 1).
//
// Contract: `ids` maps the 4^k codes (kmer.hpp) to token ids; a k-mer with anything but A, C, G, T is
// `unknown`. Encoding never throws, never allocates, and keeps to its working block on the stack.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "id_registers.hpp"
#include "instruction_sets.hpp"
#include "kmer.hpp"
#include "parallel.hpp"

namespace fastgenome {

struct NoScratch {};

// Token t covers the bases [t * stride, t * stride + k).
class SlidingKmers {
  public:
    using Scratch = NoScratch;

    // Throws std::invalid_argument where the parts do not fit together.
    SlidingKmers(int k, std::int64_t stride, std::string_view letters, std::vector<std::int32_t> ids,
                 std::int32_t unknown)
        : k_(k), stride_(stride), unknown_(unknown), ids_(std::move(ids)) {
        if (k < 1 || k > maximum_k) throw std::invalid_argument("k must lie between 1 and 8");
        if (stride < 1) throw std::invalid_argument("stride must be at least 1");
        // One range of one literal: two equal literals need not be the same object.
        constexpr std::string_view bases = "ACGT";
        if (!std::is_permutation(letters.begin(), letters.end(), bases.begin(), bases.end()))
            throw std::invalid_argument("letters must be A, C, G and T in some order");
        if (ids_.size() != std::size_t{1} << (2 * k))
            throw std::invalid_argument("ids must have 4^k entries");
        std::copy(letters.begin(), letters.end(), letters_.begin());
        for (std::size_t code = 0; code < ids_.size(); ++code) {
            in_order_ = in_order_ && std::int64_t{ids_[code]} - ids_[0] == static_cast<std::int64_t>(code);
        }
    }

    int k() const noexcept { return k_; }
    const detail::Letters& letters() const noexcept { return letters_; }

    std::int64_t bound(std::int64_t length) const noexcept {
        return length < k_ ? 0 : (length - k_) / stride_ + 1;
    }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    template <typename Id>
    std::int64_t encode(Text text, Id* out, Scratch&) const noexcept {
        return encode(text, out);
    }

    template <typename Id>
    std::int64_t encode(Text text, Id* out) const noexcept {
        const std::int64_t tokens = bound(static_cast<std::int64_t>(text.size()));
        if (tokens == 0) return 0;
        if (stride_ > 2 * k_) {
            // The windows leave most of the text out: look at each by itself.
            for (std::int64_t t = 0; t < tokens; ++t) encode_window(text.data() + t * stride_, out + t);
        } else {
            dispatch<EncodeTokens<Id>>(this, text, tokens, out);
        }
        return tokens;
    }

    // The same on as many threads as there are parts; `out` is filled as by encode.
    template <typename Id>
    std::int64_t encode_parallel(Text text, Id* out, int parts) const {
        const std::int64_t tokens = bound(static_cast<std::int64_t>(text.size()));
        run_parallel(split_evenly(tokens, parts), [&](Range range, std::size_t) {
            const std::int64_t first = range.begin * stride_;
            const std::int64_t bases = (range.end - range.begin - 1) * stride_ + k_;
            encode(text.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(bases)),
                   out + range.begin);
        });
        return tokens;
    }

  private:
    template <typename Id>
    struct EncodeTokens {
        static void run(const SlidingKmers* self, Text text, std::int64_t tokens, Id* out) noexcept {
            const std::int64_t tokens_per_block = detail::block_starts / self->stride_;
            for (std::int64_t t = 0; t < tokens; t += tokens_per_block) {
                self->encode_block(text.data() + t * self->stride_, std::min(tokens_per_block, tokens - t),
                                   out + t);
            }
        }

#ifdef FASTGENOME_X86
        FASTGENOME_AVX512 static void run_avx512(const SlidingKmers* self, Text text, std::int64_t tokens,
                                                 Id* out) noexcept {
            if (!self->in_order_) return run(self, text, tokens, out);
            if (self->stride_ == 1 && sizeof(Id) > 1) {
                RegisterEncoder<Id, true>(*self, text, tokens, out).encode();
            } else {
                RegisterEncoder<Id, false>(*self, text, tokens, out).encode();
            }
        }
#endif
    };

    template <typename Id>
    void encode_window(const std::uint8_t* text, Id* out) const noexcept {
        std::size_t code = 0;
        bool known = true;
        for (int i = 0; i < k_; ++i) {
            const auto* digit = std::find(letters_.begin(), letters_.end(), text[i]);
            known = known && digit != letters_.end();
            code = code * 4 + static_cast<std::size_t>(digit - letters_.begin()) % 4;
        }
        *out = static_cast<Id>(known ? ids_[code] : unknown_);
    }

    template <typename Id>
    void encode_block(const std::uint8_t* text, std::int64_t tokens, Id* out) const noexcept {
        detail::KmerBlock block;
        const std::int64_t starts = (tokens - 1) * stride_ + 1;
        const bool any_unknown = detail::CodeBlock::run(text, starts, k_, &letters_, &block);
        if (in_order_) {
            const std::int32_t first = ids_[0];
            if (stride_ == 1) {
                for (std::int64_t t = 0; t < tokens; ++t) out[t] = static_cast<Id>(first + block.codes[t]);
            } else {
                for (std::int64_t t = 0; t < tokens; ++t)
                    out[t] = static_cast<Id>(first + block.codes[t * stride_]);
            }
        } else {
            for (std::int64_t t = 0; t < tokens; ++t)
                out[t] = static_cast<Id>(ids_[block.codes[t * stride_]]);
        }
        if (!any_unknown) return;
        for (std::int64_t t = 0; t < tokens; ++t)
            out[t] = block.unknown[t * stride_] ? static_cast<Id>(unknown_) : out[t];
    }

#ifdef FASTGENOME_X86
    // Encodes 64 bytes at a time. `whole` means whole registers of ids out of them, as stride 1 gives; else
    // they give a part of one.
    template <typename Id, bool whole>
    class RegisterEncoder {
      public:
        FASTGENOME_AVX512 RegisterEncoder(const SlidingKmers& kmers, Text text, std::int64_t tokens,
                                          Id* out) noexcept
            : codes_(kmers.k_, kmers.letters_),
              code_bytes_(detail::KmerRegister::code_bytes<Id>()),
              first_(detail::fill_register(static_cast<Id>(kmers.ids_[0]))),
              unknown_(detail::fill_register(static_cast<Id>(kmers.unknown_))),
              stride_(static_cast<int>(kmers.stride_)),
              step_(whole ? registers * per_register : std::min((64 - kmers.k_) / stride_ + 1, per_register)),
              text_(text),
              tokens_(tokens),
              out_(out) {
            for (int r = 0; r < registers; ++r)
                places_[r] = detail::KmerRegister::places_of<Id>(r * per_register * stride_, stride_);
        }

        FASTGENOME_AVX512 void encode() noexcept {
            const auto size = static_cast<std::int64_t>(text_.size());
            const bool streams = whole && worth_streaming(tokens_ * static_cast<std::int64_t>(sizeof(Id)));
            std::int64_t t = 0;
            if (streams) {
                // Registers are streamed to addresses of whole registers alone.
                const std::size_t behind = reinterpret_cast<std::uintptr_t>(out_) % 64;
                t = static_cast<std::int64_t>((64 - behind) % 64 / sizeof(Id));
                encode_some(0, t);
                for (; t + step_ <= tokens_ && t * stride_ + 64 <= size; t += step_) encode_step<true>(t);
                _mm_sfence();
            } else {
                for (; t + step_ <= tokens_ && t * stride_ + 64 <= size; t += step_) encode_step<false>(t);
            }
            for (; t < tokens_; t += step_) encode_some(t, std::min<std::int64_t>(step_, tokens_ - t));
        }

      private:
        static constexpr int per_register = 64 / sizeof(Id);
        static constexpr int registers = whole ? (64 - maximum_k + 1) / per_register : 1;

        template <bool streams>
        FASTGENOME_AVX512 void encode_step(std::int64_t t) noexcept {
            codes_.set(_mm512_loadu_si512(text_.data() + t * stride_));
            for (int r = 0; r < registers; ++r) {
                Id* const place = out_ + t + r * per_register;
                if (streams) {
                    _mm512_stream_si512(reinterpret_cast<__m512i*>(place), ids(r));
                } else if (whole) {
                    _mm512_storeu_si512(place, ids(r));
                } else {
                    detail::store_ids<Id>(place, ids(r), ~std::uint64_t{0} >> (64 - step_));
                }
            }
        }

        // Encodes `count` tokens, at most a step of them, and reads no further than the text goes.
        FASTGENOME_AVX512 void encode_some(std::int64_t t, std::int64_t count) noexcept {
            const std::int64_t left = static_cast<std::int64_t>(text_.size()) - t * stride_;
            const std::uint64_t bytes = ~std::uint64_t{0} >> (64 - std::min<std::int64_t>(left, 64));
            codes_.set(_mm512_maskz_loadu_epi8(bytes, text_.data() + t * stride_));
            for (int r = 0; r * per_register < count; ++r) {
                const std::int64_t here = std::min<std::int64_t>(count - r * per_register, per_register);
                detail::store_ids<Id>(out_ + t + r * per_register, ids(r), ~std::uint64_t{0} >> (64 - here));
            }
        }

        FASTGENOME_AVX512 __m512i ids(int r) const noexcept {
            const __m512i known = detail::add_ids<Id>(first_, codes_.codes(places_[r], code_bytes_));
            if (codes_.unknown() == 0) [[likely]]
                return known;
            return detail::replace_ids<Id>(known, unknown_tokens(r * per_register), unknown_);
        }

        // A bit for each of the tokens from `first` on: whether its k-mer is unknown.
        FASTGENOME_AVX512 std::uint64_t unknown_tokens(int first) const noexcept {
            if (stride_ == 1) return codes_.unknown() >> first;
            std::uint64_t tokens = 0;
            for (int t = 0; t < step_; ++t) tokens |= (codes_.unknown() >> (t * stride_) & 1) << t;
            return tokens;
        }

        detail::KmerRegister codes_;
        __m512i places_[registers];
        __mmask64 code_bytes_;
        __m512i first_;
        __m512i unknown_;
        int stride_;
        int step_;  // tokens of 64 bytes
        Text text_;
        std::int64_t tokens_;
        Id* out_;
    };
#endif

    int k_;
    std::int64_t stride_;
    std::int32_t unknown_;
    bool in_order_ = true;  // ids are consecutive, so that no table is needed
    detail::Letters letters_{};
    std::vector<std::int32_t> ids_;
};

}  // namespace fastgenome
