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
struct CopyLines {
    static CopiedLines run(const std::uint8_t* in, std::int64_t size, std::uint8_t* out) noexcept {
        CopiedLines done;
        while (done.read < size && in[done.read] != '>') {
            const std::uint8_t* line = in + done.read;
            const void* end = std::memchr(line, '\n', static_cast<std::size_t>(size - done.read));
            if (end == nullptr) break;
            const std::int64_t length = static_cast<const std::uint8_t*>(end) - line;
            if (length == 0 || line[length - 1] <= ' ') break;
            std::memcpy(out + done.written, line, static_cast<std::size_t>(length));
            done.read += length + 1;
            done.written += length;
            ++done.lines;
        }
        return done;
    }

#ifdef FASTGENOME_X86
    // Lines of files are short, mostly 60 to 80 letters: one or two registers each.
    FASTGENOME_AVX512 static CopiedLines run_avx512(const std::uint8_t* in, std::int64_t size,
                                                    std::uint8_t* out) noexcept {
        const __m512i line_end = _mm512_set1_epi8('\n');
        CopiedLines done;
        while (done.read < size && in[done.read] != '>') {
            std::int64_t length = 0;
            __mmask64 ends = 0;
            while (done.read + length + 64 <= size) {
                const __m512i letters = _mm512_loadu_si512(in + done.read + length);
                ends = _mm512_cmpeq_epi8_mask(letters, line_end);
                _mm512_storeu_si512(out + done.written + length, letters);
                if (ends != 0) break;
                length += 64;
            }
            if (ends == 0) break;
            length += static_cast<std::int64_t>(_tzcnt_u64(ends));
            if (length == 0 || in[done.read + length - 1] <= ' ') break;
            done.read += length + 1;
            done.written += length;
            ++done.lines;
        }
        const CopiedLines rest = run(in + done.read, size - done.read, out + done.written);
        return {done.read + rest.read, done.written + rest.written, done.lines + rest.lines};
    }
#endif
};

}  // namespace fastgenome
