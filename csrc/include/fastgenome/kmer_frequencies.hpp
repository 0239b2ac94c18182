// k-mer counts and frequencies of one text or window, by the columns of a map.
//
// Contract: writing neither throws nor allocates. The frequencies of a text without k-mers are zeros.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "instruction_sets.hpp"
#include "kmer_counts.hpp"

namespace fastgenome {

namespace detail {

// counts / total, each correctly rounded, so that all instruction sets agree; a total of 1 leaves counts.
struct WriteQuotients {
    template <typename Counter, typename Value>
    static void run(const Counter* counts, std::int64_t size, double total, Value* out) noexcept {
        for (std::int64_t i = 0; i < size; ++i)
            out[i] = static_cast<Value>(static_cast<double>(counts[i]) / total);
    }

#ifdef FASTGENOME_X86
    // Division by multiplication: the remainder of the first quotient, which fma gives exactly, corrects it
    // (Markstein 1990). Right for all totals below 2^53, as their last bits are not all ones.
    template <typename Value>
    FASTGENOME_AVX512 static void run_avx512(const std::uint32_t* counts, std::int64_t size, double total,
                                             Value* out) noexcept {
        const __m512d divisor = _mm512_set1_pd(total);
        const __m512d reciprocal = _mm512_set1_pd(1.0 / total);
        std::int64_t i = 0;
        for (; i + 8 <= size; i += 8) {
            const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(counts + i));
            const __m512d dividend = _mm512_cvtepu32_pd(eight);
            const __m512d near = _mm512_mul_pd(dividend, reciprocal);
            const __m512d remainder = _mm512_fnmadd_pd(near, divisor, dividend);
            store_eight(_mm512_fmadd_pd(remainder, reciprocal, near), out + i);
        }
        run(counts + i, size - i, total, out + i);
    }

    FASTGENOME_AVX512 static void store_eight(__m512d values, double* out) noexcept {
        _mm512_storeu_pd(out, values);
    }

    FASTGENOME_AVX512 static void store_eight(__m512d values, float* out) noexcept {
        _mm256_storeu_ps(out, _mm512_cvtpd_ps(values));
    }
#endif
};

}  // namespace detail

class KmerRows {
  public:
    // `columns` holds the column, below `width`, of each of the 4^k codes. Throws std::invalid_argument.
    KmerRows(int k, std::vector<std::uint16_t> columns, std::size_t width, bool frequencies)
        : tables_(KmerTables::mapped(k, std::move(columns), width)), frequencies_(frequencies) {}

    std::size_t width() const noexcept { return tables_.size(); }
    const KmerTables& tables() const noexcept { return tables_; }
    bool needs_bases() const noexcept { return false; }

    template <typename Counter, typename Value>
    void write(const Counter* counts, std::int64_t, std::int64_t, Value* out) const noexcept {
        const auto size = static_cast<std::int64_t>(width());
        double total = 1.0;
        if (frequencies_) {
            const Counter sum = dispatch<detail::SumCounts>(counts, size);
            if (sum > 0) total = static_cast<double>(sum);
        }
        dispatch<detail::WriteQuotients>(counts, size, total, out);
    }

  private:
    KmerTables tables_;
    bool frequencies_;
};

}  // namespace fastgenome
