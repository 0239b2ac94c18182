// A genome: contigs of which any stretch can be read.
//
// Contract: reading changes nothing that another thread could see, and works in a child made by fork.
// Coordinates are 0-based, half-open, std::int64_t.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "byte_buffer.hpp"
#include "genome_letters.hpp"
#include "input_errors.hpp"
#include "parallel.hpp"

namespace fastgenome {

struct Contig {
    std::string name;
    std::int64_t length;
};

struct Region {
    std::int64_t contig;  // index
    std::int64_t start;
    std::int64_t end;

    std::int64_t length() const noexcept { return end - start; }
};

// The index of a contig whose name another one before has, or -1.
inline std::int64_t find_repeated_name(std::span<const Contig> contigs) {
    // A table of indexes, each at the place its name's hash gives or the next free one.
    const std::size_t mask = std::bit_ceil(2 * contigs.size() + 1) - 1;
    std::vector<std::int64_t> table(mask + 1, -1);
    for (std::size_t i = 0; i < contigs.size(); ++i) {
        std::size_t place = std::hash<std::string_view>{}(contigs[i].name) & mask;
        for (; table[place] >= 0; place = (place + 1) & mask) {
            if (contigs[table[place]].name == contigs[i].name) return static_cast<std::int64_t>(i);
        }
        table[place] = static_cast<std::int64_t>(i);
    }
    return -1;
}

class Genome {
  public:
    virtual ~Genome() = default;

    const std::vector<Contig>& contigs() const noexcept { return contigs_; }

    // Writes region.length() cleaned letters; the region lies within its contig.
    virtual void read(const Region& region, std::uint8_t* out) const = 0;

    // Throws malformed_input when the file is not the one that was opened any more.
    virtual void check_unchanged() const {}

    // Throws bad_region unless the region lies within its contig, which must exist.
    void check(const Region& region) const {
        const Contig& contig = contigs_[region.contig];
        if (region.start >= 0 && region.start <= region.end && region.end <= contig.length) return;
        throw bad_region("region " + contig.name + ":" + std::to_string(region.start) + "-" +
                         std::to_string(region.end) + " does not lie within " + contig.name + ", which has " +
                         std::to_string(contig.length) + " bases (0-based, half-open)");
    }

  protected:
    explicit Genome(std::vector<Contig> contigs) : contigs_(std::move(contigs)) {}

    [[noreturn]] void refuse(const Region& region, std::int64_t position, std::uint8_t byte) const {
        constexpr char digits[] = "0123456789abcdef";
        const bool is_visible = byte > ' ' && byte < 0x7F;
        const std::string shown = is_visible ? std::string(1, static_cast<char>(byte))
                                             : std::string("\\x") + digits[byte >> 4] + digits[byte & 15];
        throw malformed_input("'" + shown + "' at position " + std::to_string(region.start + position) +
                              " (from 0) of " + contigs_[region.contig].name + " is not a nucleotide");
    }

    std::vector<Contig> contigs_;
};

// All letters in memory, one byte a base.
class GenomeInMemory final : public Genome {
  public:
    // `letters` holds the contigs one behind the other, as they stand in a file or, with `is_clean`, clean.
    GenomeInMemory(std::vector<Contig> contigs, ByteBuffer letters, bool keep_case, bool is_clean)
        : Genome(std::move(contigs)), letters_(std::move(letters)) {
        // Mostly nothing has to be moved or refused, and contig by contig is slow for many short ones.
        const std::span<std::uint8_t> all(letters_.data(), static_cast<std::size_t>(letters_.size()));
        is_clean = is_clean || clean_genome_letters(all, keep_case) < 0;
        std::int64_t read = 0;
        std::int64_t written = 0;
        for (std::size_t index = 0; index < contigs_.size(); ++index) {
            std::int64_t& length = contigs_[index].length;
            starts_.push_back(written);
            const Region whole{static_cast<std::int64_t>(index), 0, length};
            const std::int64_t cleaned = is_clean ? length : clean(whole, read, written, keep_case);
            read += length;
            length = cleaned;
            written += cleaned;
        }
        letters_.shrink_to(written);
    }

    void read(const Region& region, std::uint8_t* out) const override {
        const std::uint8_t* first = letters_.data() + starts_[region.contig] + region.start;
        if (region.length() > 0) std::memcpy(out, first, static_cast<std::size_t>(region.length()));
    }

  private:
    // Cleans the contig at `from` and moves it to `to`; returns its length without blanks within lines.
    std::int64_t clean(const Region& whole, std::int64_t from, std::int64_t to, bool keep_case) {
        if (whole.length() == 0) return 0;
        std::uint8_t* in = letters_.data() + from;
        std::uint8_t* out = letters_.data() + to;
        if (from != to) std::memmove(out, in, static_cast<std::size_t>(whole.length()));
        std::span<std::uint8_t> letters(out, static_cast<std::size_t>(whole.length()));
        std::int64_t refused = clean_genome_letters(letters, keep_case);
        if (refused >= 0 && is_space(letters[refused])) {
            std::uint8_t* end =
                std::remove_if(letters.data() + refused, letters.data() + letters.size(), is_space);
            letters = letters.first(static_cast<std::size_t>(end - letters.data()));
            refused = clean_genome_letters(letters, keep_case);
        }
        if (refused >= 0) refuse(whole, refused, letters[refused]);
        return static_cast<std::int64_t>(letters.size());
    }

    ByteBuffer letters_;
    std::vector<std::int64_t> starts_;
};

// Reads many regions, the letters of each to its place in `outs`, on as many threads as the work deserves.
inline void read_regions(const Genome& genome, std::span<const Region> regions,
                         std::span<std::uint8_t* const> outs, int threads) {
    constexpr std::int64_t per_region = 256;
    genome.check_unchanged();
    std::vector<std::int64_t> weights;
    weights.reserve(regions.size());
    for (const Region& region : regions) weights.push_back(region.length() + per_region);
    const std::vector<Range> ranges = split_by_weight(weights, threads);
    run_parallel(ranges, [&](Range range, std::size_t) {
        for (std::int64_t i = range.begin; i < range.end; ++i) genome.read(regions[i], outs[i]);
    });
}

}  // namespace fastgenome
