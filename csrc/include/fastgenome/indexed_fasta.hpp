// Stretches of a FASTA file, found by its entries.
//
// Contract: what is read is checked against the entries (a line end where one must be, nothing but
// nucleotides elsewhere), so that a wrong index is an error and never a wrong base.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "byte_source.hpp"
#include "fasta_index.hpp"
#include "genome.hpp"

namespace fastgenome {

class IndexedFasta final : public Genome {
  public:
    // Throws malformed_input when the entries do not fit the file.
    IndexedFasta(std::unique_ptr<ByteSource> file, std::vector<FastaEntry> entries, bool keep_case)
        : Genome(contigs_of(entries)),
          file_(std::move(file)),
          entries_(std::move(entries)),
          keep_case_(keep_case) {
        check_entries(*file_, entries_);
    }

    void read(const Region& region, std::uint8_t* out) const override {
        // In pieces, so that a whole chromosome takes no second buffer of its size.
        for (std::int64_t start = region.start; start < region.end; start += piece_bases) {
            const std::int64_t end = std::min(start + piece_bases, region.end);
            read_piece({region.contig, start, end}, out + (start - region.start));
        }
    }

    void check_unchanged() const override { file_->check_unchanged(); }

  private:
    static constexpr std::int64_t piece_bases = 1 << 18;

    static std::vector<Contig> contigs_of(const std::vector<FastaEntry>& entries) {
        std::vector<Contig> contigs;
        contigs.reserve(entries.size());
        for (const FastaEntry& entry : entries) contigs.push_back({entry.name, entry.length});
        return contigs;
    }

    void read_piece(const Region& region, std::uint8_t* out) const {
        // A line holds at least one base and at most two bytes besides, so this is always enough.
        thread_local std::unique_ptr<std::uint8_t[]> buffer(new std::uint8_t[3 * piece_bases]);
        const FastaEntry& entry = entries_[region.contig];
        const std::int64_t first = entry.offset_of(region.start);
        const std::int64_t last = entry.offset_of(region.end - 1) + 1;
        file_->read(first, {buffer.get(), static_cast<std::size_t>(last - first)});
        join_lines(region, buffer.get(), out);
        const std::span<std::uint8_t> letters(out, static_cast<std::size_t>(region.length()));
        const std::int64_t refused = clean_genome_letters(letters, keep_case_);
        if (refused >= 0) refuse(region, refused, letters[refused]);
    }

    void join_lines(const Region& region, const std::uint8_t* in, std::uint8_t* out) const {
        const FastaEntry& entry = entries_[region.contig];
        const std::int64_t line_end = entry.line_bytes - entry.line_bases;
        std::int64_t left = region.length();
        std::int64_t line_left = entry.line_bases - region.start % entry.line_bases;
        while (true) {
            const std::int64_t count = std::min(left, line_left);
            std::memcpy(out, in, static_cast<std::size_t>(count));
            left -= count;
            if (left == 0) return;
            const bool ends = in[count + line_end - 1] == '\n' && (line_end == 1 || in[count] == '\r');
            if (!ends) detail::refuse_entry(entry, "a line is not as long as it says");
            out += count;
            in += count + line_end;
            line_left = entry.line_bases;
        }
    }

    std::unique_ptr<ByteSource> file_;
    std::vector<FastaEntry> entries_;
    bool keep_case_;
};

}  // namespace fastgenome
