// The inner loop of reading FASTA: lines of letters, joined.
//
// Contract: nothing here throws or allocates. `out` has room for all of `in`; what stands behind the bytes
// reported as written is undefined afterwards.
#pragma once

#include <cstdint>
#include <cstring>

#include "instruction_sets.hpp"

namespace fastgenome {

struct CopiedLines {
    std::int64_t read = 0;     // bytes of `in` that are done with
    std::int64_t written = 0;  // bytes put into `out`
    std::int64_t lines = 0;    // line ends among the bytes read
};

// Copies whole lines, without their line ends, from `in`, which stands at the start of a line. Stops before a
// line that is empty, starts with '>', has a control character or blank before its line end (such as the CR
// of CRLF), or does not end within `in`: those need more thought.
//
// A line is first taken to be as long as the one before. That is checked, so the result does not depend on
// it; but the processor need not wait for the end of a line to begin with the next.
struct CopyLines {
    static CopiedLines run(const std::uint8_t* in, std::int64_t size, std::uint8_t* out) noexcept {
        CopiedLines done;
        std::int64_t expected = 0;
        while (done.read < size && in[done.read] != '>') {
            const std::uint8_t* line = in + done.read;
            const std::int64_t left = size - done.read;
            const bool is_as_expected =
                expected > 0 && expected < left && line[expected] == '\n' &&
                std::memchr(line, '\n', static_cast<std::size_t>(expected)) == nullptr;
            if (!is_as_expected) {
                const void* end = std::memchr(line, '\n', static_cast<std::size_t>(left));
                if (end == nullptr) break;
                expected = static_cast<const std::uint8_t*>(end) - line;
            }
            if (expected == 0 || line[expected - 1] <= ' ') break;
            std::memcpy(out + done.written, line, static_cast<std::size_t>(expected));
            take(done, expected);
        }
        return done;
    }

#ifdef FASTGENOME_X86
    // Lines of files are short, mostly 60 to 80 letters: one or two registers each.
    FASTGENOME_AVX512 static CopiedLines run_avx512(const std::uint8_t* in, std::int64_t size,
                                                    std::uint8_t* out) noexcept {
        CopiedLines done;
        std::int64_t expected = 0;
        while (done.read < size && in[done.read] != '>') {
            const std::uint8_t* line = in + done.read;
            const std::int64_t left = size - done.read;
            if (expected == 0 || !copy_if_ends_at(expected, line, left, out + done.written)) {
                const std::int64_t length = copy_one(line, left, out + done.written);
                if (length < 0) break;
                expected = length;
            }
            if (expected == 0 || line[expected - 1] <= ' ') break;
            take(done, expected);
        }
        // The last bytes, which do not fill a register.
        const CopiedLines rest = run(in + done.read, size - done.read, out + done.written);
        return {done.read + rest.read, done.written + rest.written, done.lines + rest.lines};
    }

  private:
    FASTGENOME_AVX512 static std::uint64_t copy_register(const std::uint8_t* in, std::uint8_t* out) noexcept {
        const __m512i letters = _mm512_loadu_si512(in);
        _mm512_storeu_si512(out, letters);
        return _mm512_cmpeq_epi8_mask(letters, _mm512_set1_epi8('\n'));
    }

    // Copies a line if its first line end stands at `length`; false where it does not, or where that needs
    // bytes beyond `left`.
    FASTGENOME_AVX512 static bool copy_if_ends_at(std::int64_t length, const std::uint8_t* line,
                                                  std::int64_t left, std::uint8_t* out) noexcept {
        const std::int64_t last = length & ~std::int64_t{63};
        if (last + 64 > left) return false;
        std::uint64_t ends = 0;
        for (std::int64_t i = 0; i < last; i += 64) ends |= copy_register(line + i, out + i);
        const std::uint64_t end = std::uint64_t{1} << (length & 63);
        return ends == 0 && (copy_register(line + last, out + last) & (end | (end - 1))) == end;
    }

    // Copies a line and returns its length; -1 where that needs bytes beyond `left`.
    FASTGENOME_AVX512 static std::int64_t copy_one(const std::uint8_t* line, std::int64_t left,
                                                   std::uint8_t* out) noexcept {
        for (std::int64_t i = 0; i + 64 <= left; i += 64) {
            const std::uint64_t ends = copy_register(line + i, out + i);
            if (ends != 0) return i + static_cast<std::int64_t>(_tzcnt_u64(ends));
        }
        return -1;
    }
#endif

  private:
    static void take(CopiedLines& done, std::int64_t length) noexcept {
        done.read += length + 1;
        done.written += length;
        ++done.lines;
    }
};

}  // namespace fastgenome
