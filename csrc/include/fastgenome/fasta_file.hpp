// A whole FASTA or FASTQ file, read into a parser.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "byte_source.hpp"
#include "fasta.hpp"

namespace fastgenome {

// Feeds all of a file and declares its end. Throws what the two throw.
inline void read_all(const ByteSource& file, sequence_parser& parser) {
    constexpr std::int64_t piece = 1 << 18;  // stays in the second cache between reading and parsing
    const std::int64_t size = file.size();
    const std::unique_ptr<std::uint8_t[]> buffer(new std::uint8_t[static_cast<std::size_t>(piece)]);
    parser.reserve(size);
    for (std::int64_t offset = 0; offset < size; offset += piece) {
        const auto count = static_cast<std::size_t>(std::min(piece, size - offset));
        file.read(offset, {buffer.get(), count});
        parser.feed({reinterpret_cast<const char*>(buffer.get()), count});
    }
    file.check_unchanged();
    parser.finish();
}

}  // namespace fastgenome
