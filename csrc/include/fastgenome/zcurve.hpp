// z-curve parameters: what the counts of k-mers become (Gao & Zhang 2004).
//
// Contract: nothing here throws or allocates, but for the making of ZCurveParameters. A quantity that would
// be divided by zero is zero.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "instruction_sets.hpp"
#include "kmer_counts.hpp"

namespace fastgenome {

// The three differences that the z-curve is made of (Zhang & Zhang 1994).
template <typename Number>
struct ZComponents {
    Number x;  // purine over pyrimidine: (A + G) - (C + T)
    Number y;  // amino over keto:        (A + C) - (G + T)
    Number z;  // weak over strong:       (A + T) - (C + G)
};

template <typename Number>
constexpr ZComponents<Number> z_components(Number a, Number c, Number g, Number t) noexcept {
    return {(a + g) - (c + t), (a + c) - (g + t), (a + t) - (c + g)};
}

// What the differences of counts are divided by.
enum class ZNorm : int {
    count,       // nothing
    length,      // bases of the sequence
    phase,       // k-mers of that order and phase
    conditional  // k-mers of that order and phase which begin with the same k - 1 bases
};

namespace detail {

// x, y and z of each four counts, times `scale`; `counts` holds 4 * prefixes, `out` 3 * prefixes entries.
struct WriteComponents {
    template <typename Counter, typename Value>
    static void run(const Counter* counts, std::int64_t prefixes, double scale, Value* out) noexcept {
        for (std::int64_t i = 0; i < prefixes; ++i) {
            const auto [x, y, z] = signed_components(counts + 4 * i);
            out[3 * i] = static_cast<Value>(static_cast<double>(x) * scale);
            out[3 * i + 1] = static_cast<Value>(static_cast<double>(y) * scale);
            out[3 * i + 2] = static_cast<Value>(static_cast<double>(z) * scale);
        }
    }

    template <typename Counter>
    static ZComponents<std::int64_t> signed_components(const Counter* four) noexcept {
        return z_components<std::int64_t>(
            static_cast<std::int64_t>(four[0]), static_cast<std::int64_t>(four[1]),
            static_cast<std::int64_t>(four[2]), static_cast<std::int64_t>(four[3]));
    }

#ifdef FASTGENOME_X86
    // Four prefixes at once: 16 counts become 12 numbers. Differences wrap around as 32 bits do, which is
    // right as long as all counts together stay below 2^31.
    template <typename Value>
    FASTGENOME_AVX512 static void run_avx512(const std::uint32_t* counts, std::int64_t prefixes, double scale,
                                             Value* out) noexcept {
        const __m512i first = _mm512_setr_epi32(0, 0, 0, 4, 4, 4, 8, 8, 8, 12, 12, 12, 0, 0, 0, 0);
        const __m512i second = _mm512_setr_epi32(2, 1, 3, 6, 5, 7, 10, 9, 11, 14, 13, 15, 0, 0, 0, 0);
        const __m512i third = _mm512_setr_epi32(1, 2, 1, 5, 6, 5, 9, 10, 9, 13, 14, 13, 0, 0, 0, 0);
        const __m512i fourth = _mm512_setr_epi32(3, 3, 2, 7, 7, 6, 11, 11, 10, 15, 15, 14, 0, 0, 0, 0);
        const __m512d factor = _mm512_set1_pd(scale);
        std::int64_t i = 0;
        for (; i + 4 <= prefixes; i += 4) {
            const __m512i part = _mm512_loadu_si512(counts + 4 * i);
            const __m512i plus = _mm512_add_epi32(_mm512_permutexvar_epi32(first, part),
                                                  _mm512_permutexvar_epi32(second, part));
            const __m512i minus = _mm512_add_epi32(_mm512_permutexvar_epi32(third, part),
                                                   _mm512_permutexvar_epi32(fourth, part));
            const __m512i sums = _mm512_sub_epi32(plus, minus);
            const __m512d low = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sums)), factor);
            const __m512d high =
                _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sums, 1)), factor);
            store_twelve(low, high, out + 3 * i);
        }
        run(counts + 4 * i, prefixes - i, scale, out + 3 * i);
    }

    FASTGENOME_AVX512 static void store_twelve(__m512d low, __m512d high, double* out) noexcept {
        _mm512_storeu_pd(out, low);
        _mm256_storeu_pd(out + 8, _mm512_castpd512_pd256(high));
    }

    FASTGENOME_AVX512 static void store_twelve(__m512d low, __m512d high, float* out) noexcept {
        _mm256_storeu_ps(out, _mm512_cvtpd_ps(low));
        _mm_storeu_ps(out + 8, _mm256_castps256_ps128(_mm512_cvtpd_ps(high)));
    }
#endif
};

// Each prefix's components divided by the sum of its four counts.
struct WriteConditional {
    template <typename Counter, typename Value>
    static void run(const Counter* counts, std::int64_t prefixes, Value* out) noexcept {
        for (std::int64_t i = 0; i < prefixes; ++i) {
            const Counter* const four = counts + 4 * i;
            const auto total = static_cast<double>(four[0] + four[1] + four[2] + four[3]);
            const double scale = total == 0.0 ? 0.0 : 1.0 / total;
            WriteComponents::run(four, 1, scale, out + 3 * i);
        }
    }
};

}  // namespace detail

// A set of parameters: blocks of order k and a number of phases each, one behind the other; in a block phase
// by phase, prefix by prefix, x then y then z.
class ZCurveParameters {
  public:
    // `blocks` are pairs of k and phases. Throws std::invalid_argument where one is out of bounds.
    ZCurveParameters(std::span<const std::pair<int, int>> blocks, ZNorm norm) : norm_(norm) {
        for (const auto& [k, phases] : blocks) tables_.add(k, phases);
    }

    std::size_t width() const noexcept { return tables_.size() / 4 * 3; }
    const KmerTables& tables() const noexcept { return tables_; }
    bool needs_bases() const noexcept { return norm_ == ZNorm::length; }

    // The row of a window that begins at `start`: phases of its k-mers count from there. `counts` holds those
    // of tables() by phases from 0 on; `bases` is the number of A, C, G and T.
    template <typename Counter, typename Value>
    void write(const Counter* counts, std::int64_t start, std::int64_t bases, Value* out) const noexcept {
        for (const KmerTable& table : tables_.tables()) {
            const std::size_t prefixes = table.width / 4;
            auto phase = static_cast<std::size_t>(start % table.phases);
            for (int i = 0; i < table.phases; ++i) {
                write_phase(counts + table.begin + phase * table.width, table.width, bases, out);
                out += 3 * prefixes;
                if (++phase == static_cast<std::size_t>(table.phases)) phase = 0;
            }
        }
    }

  private:
    template <typename Counter, typename Value>
    void write_phase(const Counter* counts, std::size_t width, std::int64_t bases,
                     Value* out) const noexcept {
        const auto size = static_cast<std::int64_t>(width);
        if (norm_ == ZNorm::conditional) return dispatch<detail::WriteConditional>(counts, size / 4, out);
        double divisor = 1.0;
        if (norm_ == ZNorm::length) divisor = static_cast<double>(bases);
        if (norm_ == ZNorm::phase) divisor = static_cast<double>(dispatch<detail::SumCounts>(counts, size));
        const double scale = divisor == 0.0 ? 0.0 : 1.0 / divisor;
        dispatch<detail::WriteComponents>(counts, size / 4, scale, out);
    }

    KmerTables tables_;
    ZNorm norm_;
};

}  // namespace fastgenome
