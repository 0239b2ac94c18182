// The inner loop of reading FASTA: lines of letters, joined.
//
// Contract: nothing here throws or allocates. `out` has room for `size` bytes, and `in` begins at least
// joining_gap bytes behind `out` or does not overlap it; what stands behind the bytes reported as written is
// undefined afterwards, but bytes that were not read stay as they are.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "instruction_sets.hpp"
#include "only_bases.hpp"

namespace fastgenome {

inline constexpr std::int64_t joining_gap = 64;

struct JoinedLines {
    std::int64_t read = 0;     // bytes of `in` that are done with
    std::int64_t written = 0;  // bytes put into `out`: those read but the line ends
    bool only_upper = true;    // whether those are upper-case A, C, G, T and N alone
};

// Copies letters without line ends. Stops at a control character, a blank or a '>' wherever it stands: those
// need more thought.
struct JoinLines {
    static JoinedLines run(const std::uint8_t* in, std::int64_t size, std::uint8_t* out) noexcept {
        JoinedLines done;
        while (done.read < size) {
            const std::uint8_t* line = in + done.read;
            const auto left = static_cast<std::size_t>(size - done.read);
            const void* end = std::memchr(line, '\n', left);
            const std::int64_t length = end == nullptr ? static_cast<std::int64_t>(left)
                                                       : static_cast<const std::uint8_t*>(end) - line;
            const std::int64_t letters = count_letters(line, length);
            if (letters > 0) std::memmove(out + done.written, line, static_cast<std::size_t>(letters));
            done.only_upper = done.only_upper && detail::OnlyBases<0xFF>::run(line, letters);
            done.read += letters;
            done.written += letters;
            if (letters < length || end == nullptr) break;
            ++done.read;
        }
        return done;
    }

#ifdef FASTGENOME_X86
    // Takes no notice of lines: letters are packed, line ends squeezed out, a register at a time.
    FASTGENOME_AVX512 static JoinedLines run_avx512(const std::uint8_t* in, std::int64_t size,
                                                    std::uint8_t* out) noexcept {
        constexpr __mmask64 all = ~__mmask64{0};
        JoinedLines done;
        while (size - done.read >= 64) {
            // No more is written than was read, so a whole register ends before what is unread.
            std::uint8_t* place = out + done.written;
            const Block block = take(_mm512_loadu_si512(in + done.read), all, done);
            _mm512_storeu_si512(place, block.letters);
            if (block.stops) return done;
        }
        if (size > done.read) {
            const __mmask64 left = all >> (64 - (size - done.read));
            std::uint8_t* place = out + done.written;
            const Block block = take(_mm512_maskz_loadu_epi8(left, in + done.read), left, done);
            _mm512_mask_storeu_epi8(place, left, block.letters);
        }
        return done;
    }

  private:
    struct Block {
        __m512i letters;  // those taken, packed
        bool stops;       // before the end of the block
    };

    // Takes the bytes `given` of a register up to the first that needs more thought.
    FASTGENOME_AVX512 static Block take(__m512i bytes, __mmask64 given, JoinedLines& done) noexcept {
        const __m512i spelled = _mm512_shuffle_epi8(detail::spelling_of_bases(), bytes);
        const __mmask64 ends = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\n'));
        const __mmask64 others = _mm512_mask_cmpneq_epu8_mask(given, spelled, bytes);
        __mmask64 taken = given;
        if (others != ends) {
            const __mmask64 low = _mm512_mask_cmple_epu8_mask(given, bytes, _mm512_set1_epi8(' '));
            const __mmask64 stops = (low ^ ends) | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('>'));
            if (stops != 0) taken = given & (_blsmsk_u64(stops) >> 1);
            done.only_upper = done.only_upper && (others & taken & ~ends) == 0;
        }
        const __mmask64 letters = taken & ~ends;
        done.read += std::popcount(taken);
        done.written += std::popcount(letters);
        return {_mm512_maskz_compress_epi8(letters, bytes), taken != given};
    }
#endif

  private:
    static bool is_stop(std::uint8_t byte) noexcept { return byte <= ' ' || byte == '>'; }

    // How many bytes of a line without its end stand before the first that needs more thought.
    static std::int64_t count_letters(const std::uint8_t* line, std::int64_t length) noexcept {
        unsigned stops = 0;
        for (std::int64_t i = 0; i < length; ++i) stops |= is_stop(line[i]) ? 1U : 0U;
        if (stops == 0) return length;
        std::int64_t letters = 0;
        while (!is_stop(line[letters])) ++letters;
        return letters;
    }
};

}  // namespace fastgenome
