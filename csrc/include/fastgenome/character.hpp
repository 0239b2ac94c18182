// One token per character, by table.
//
// Contract: writes exactly one id per byte; encoding never throws, never allocates.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "alphabet.hpp"
#include "id_registers.hpp"
#include "instruction_sets.hpp"
#include "parallel.hpp"

namespace fastgenome {

class Characters {
  public:
    struct Scratch {};

    // `ids` holds the token of each of the 256 characters, the unknown token included.
    explicit Characters(std::span<const std::int32_t> ids) {
        if (ids.size() != ids_.size()) throw std::invalid_argument("ids must have 256 entries");
        std::copy(ids.begin(), ids.end(), ids_.begin());
        std::transform(ids.begin(), ids.end(), bytes_.begin(),
                       [](std::int32_t id) { return static_cast<std::uint8_t>(id); });
        fit_bytes_ = std::ranges::all_of(ids, [](std::int32_t id) { return id >= 0 && id < 256; });
    }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    template <typename Id>
    std::int64_t encode(Text text, Id* out, Scratch&) const noexcept {
        dispatch<LookUp<Id>>(this, text, out);
        return static_cast<std::int64_t>(text.size());
    }

    // The same on as many threads as there are parts.
    template <typename Id>
    std::int64_t encode_parallel(Text text, Id* out, int parts) const {
        const auto size = static_cast<std::int64_t>(text.size());
        run_parallel(split_evenly(size, parts), [&](Range range, std::size_t) {
            const auto begin = static_cast<std::size_t>(range.begin);
            dispatch<LookUp<Id>>(this, text.subspan(begin, static_cast<std::size_t>(range.end) - begin),
                                 out + begin);
        });
        return size;
    }

  private:
    template <typename Id>
    struct LookUp {
        static void run(const Characters* self, Text text, Id* out) noexcept {
            for (std::size_t i = 0; i < text.size(); ++i) out[i] = static_cast<Id>(self->ids_[text[i]]);
        }

#ifdef FASTGENOME_X86
        FASTGENOME_AVX512 static void run_avx512(const Characters* self, Text text, Id* out) noexcept {
            if (!self->fit_bytes_) return run(self, text, out);
            __m512i table[4];
            for (int part = 0; part < 4; ++part)
                table[part] = _mm512_loadu_si512(self->bytes_.data() + 64 * part);
            const std::size_t size = text.size();
            std::size_t i = 0;
            for (; i + 64 <= size; i += 64) {
                store(look_up(table, _mm512_loadu_si512(text.data() + i)), out + i, ~std::uint64_t{0});
            }
            if (i < size) {
                const std::uint64_t mask = ~std::uint64_t{0} >> (64 - (size - i));
                store(look_up(table, _mm512_maskz_loadu_epi8(mask, text.data() + i)), out + i, mask);
            }
        }

        FASTGENOME_AVX512 static __m512i look_up(const __m512i* table, __m512i text) noexcept {
            const __m512i lower = _mm512_permutex2var_epi8(table[0], text, table[1]);
            const __mmask64 above = _mm512_movepi8_mask(text);
            if (above == 0) [[likely]]
                return lower;
            return _mm512_mask_mov_epi8(lower, above, _mm512_permutex2var_epi8(table[2], text, table[3]));
        }

        // Stores 64 ids, or those of them for which `mask` has a bit.
        FASTGENOME_AVX512 static void store(__m512i ids, Id* out, std::uint64_t mask) noexcept {
            if constexpr (sizeof(Id) == 1) {
                detail::store_ids<Id>(out, ids, mask);
            } else {
                alignas(64) std::array<std::uint8_t, 64> bytes;
                _mm512_store_si512(bytes.data(), ids);
                constexpr int count = 64 / sizeof(Id);
                for (int first = 0; first < 64; first += count) {
                    detail::store_ids<Id>(out + first, detail::widen_ids<Id>(bytes.data() + first),
                                          mask >> first);
                }
            }
        }
#endif
    };

    std::array<std::int32_t, 256> ids_{};
    std::array<std::uint8_t, 256> bytes_{};  // the same, where they fit
    bool fit_bytes_ = false;
};

}  // namespace fastgenome
