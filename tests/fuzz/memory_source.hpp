// A file of any bytes in memory; reading beyond its end is what the readers must never do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "fastgenome/byte_source.hpp"
#include "fastgenome/genome.hpp"
#include "fuzzing.hpp"

namespace fuzzing {

class MemorySource final : public fastgenome::ByteSource {
  public:
    explicit MemorySource(Text bytes) : bytes_(bytes) {}

    std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()); }

    void read(std::int64_t offset, std::span<std::uint8_t> out) const override {
        const auto wanted = static_cast<std::int64_t>(out.size());
        require(offset >= 0 && offset <= size() && wanted <= size() - offset, "reads lie within the file");
        std::copy_n(bytes_.begin() + offset, wanted, out.begin());
    }

  private:
    Text bytes_;
};

// The letters of a region, or nothing where the reader refuses the file's bytes there.
template <typename Genome>
bool read_region(const Genome& genome, const fastgenome::Region& region, std::vector<std::uint8_t>& letters) {
    Buffer<std::uint8_t> out(region.length());
    try {
        genome.read(region, out.data());
    } catch (const fastgenome::malformed_input&) {
        return false;
    }
    letters.assign(out.data(), out.data() + region.length());
    return true;
}

// Whether a part read by itself is the same as within the whole.
template <typename Genome>
void check_parts(const Genome& genome, std::int64_t contig, Input& input) {
    const std::int64_t length = genome.contigs()[static_cast<std::size_t>(contig)].length;
    std::vector<std::uint8_t> whole;
    const bool is_read = read_region(genome, {contig, 0, length}, whole);
    const std::int64_t start = length == 0 ? 0 : (input.byte() << 8 | input.byte()) % (length + 1);
    const std::int64_t end = start + (input.byte() << 8 | input.byte()) % (length - start + 1);
    std::vector<std::uint8_t> part;
    if (!read_region(genome, {contig, start, end}, part)) {
        require(!is_read, "what is refused in part is refused as a whole");
        return;
    }
    if (!is_read) return;
    require(std::equal(part.begin(), part.end(), whole.begin() + start),
            "a part is what stands there in the whole");
    for (const std::uint8_t letter : whole) {
        require(places_in("ACGTNacgtn")[letter] >= 0, "letters are clean");
    }
}

}  // namespace fuzzing
