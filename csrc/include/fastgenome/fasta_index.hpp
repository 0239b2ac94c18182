// Where the letters of a FASTA file stand: found in one pass, or taken from an index and checked.
//
// An entry describes a contig whose lines, but for the last, are equally long; the offset of any base follows
// from it. Contract: an entry is never a guess. The scanner throws malformed_input for a file that entries
// cannot describe, and check_entries for entries that do not cover the file from its first to its last byte.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "byte_source.hpp"
#include "genome_letters.hpp"
#include "input_errors.hpp"

namespace fastgenome {

struct FastaEntry {
    std::string name;
    std::int64_t length;      // bases
    std::int64_t offset;      // of the first base, in bytes
    std::int64_t line_bases;  // of a full line
    std::int64_t line_bytes;  // the same with its line end

    // Offset of a base, 0 <= position <= length.
    std::int64_t offset_of(std::int64_t position) const noexcept {
        if (line_bases == 0) return offset;
        return offset + position / line_bases * line_bytes + position % line_bases;
    }

    // Offset behind the last base; its line end follows.
    std::int64_t end() const noexcept { return length == 0 ? offset : offset_of(length - 1) + 1; }
};

// Push scanner: bytes of a whole FASTA file in, in pieces of any size; entries out.
class FastaScanner {
  public:
    void feed(std::string_view bytes) {
        while (!bytes.empty()) {
            const std::size_t end = bytes.find('\n');
            const std::string_view part = bytes.substr(0, end);
            read_part(part);
            read_ += static_cast<std::int64_t>(part.size());
            if (end == std::string_view::npos) return;
            ++read_;
            end_line(true);
            bytes.remove_prefix(end + 1);
        }
    }

    // Declares the end of the input; hands over the entries.
    std::vector<FastaEntry> finish() {
        if (line_size_ > 0) end_line(false);
        return std::move(entries_);
    }

  private:
    enum class Line { unknown, header, letters };

    void read_part(std::string_view part) {
        if (part.empty()) return;
        if (line_size_ == 0) {
            kind_ = part.front() == '>' ? Line::header : Line::letters;
            if (kind_ == Line::letters && entries_.empty()) refuse("a FASTA file begins with '>'");
        }
        line_size_ += static_cast<std::int64_t>(part.size());
        if (kind_ == Line::header) {
            header_.append(part);
            return;
        }
        // The CR of a CRLF may be the last byte of a piece: it counts once the next byte is known.
        if (ends_with_return_) refuse("a carriage return within a line");
        ends_with_return_ = part.back() == '\r';
        if (ends_with_return_) part.remove_suffix(1);
        check_letters(part);
    }

    void check_letters(std::string_view part) const {
        const Text text(reinterpret_cast<const std::uint8_t*>(part.data()), part.size());
        if (are_genome_letters(text)) return;
        const std::uint8_t letter = *std::ranges::find_if_not(text, is_genome_letter);
        if (is_space(letter)) refuse("white space within or at the end of a line of letters");
        refuse("a byte (" + std::to_string(letter) + ") that is not a nucleotide");
    }

    void end_line(bool has_newline) {
        if (kind_ == Line::header) {
            begin_entry();
        } else if (!entries_.empty()) {
            const std::int64_t bases = line_size_ - (ends_with_return_ ? 1 : 0);
            if (!has_newline && ends_with_return_) refuse("a carriage return at the end of the file");
            add_line(bases, line_size_ + (has_newline ? 1 : 0), has_newline);
        }
        ++line_number_;
        kind_ = Line::unknown;
        line_size_ = 0;
        ends_with_return_ = false;
    }

    void begin_entry() {
        std::string_view header(header_);
        if (header.ends_with('\r')) header.remove_suffix(1);
        if (header.find('\r') != std::string_view::npos) refuse("a carriage return within a header");
        header.remove_prefix(1);
        const std::string_view name = header.substr(0, header.find_first_of(" \t"));
        if (name.empty()) refuse("a header without a name right behind '>'");
        entries_.push_back({std::string(name), 0, read_, 0, 0});
        header_.clear();
        is_short_ = false;
    }

    void add_line(std::int64_t bases, std::int64_t bytes, bool has_newline) {
        FastaEntry& entry = entries_.back();
        if (bases == 0) {
            is_short_ = true;
            return;
        }
        if (is_short_) refuse("a line behind a shorter or empty one of the same contig");
        if (entry.length == 0) {
            entry.line_bases = bases;
            entry.line_bytes = bytes;
        }
        if (bases > entry.line_bases) refuse("a line longer than the first one of its contig");
        if (has_newline && bytes - bases != entry.line_bytes - entry.line_bases) {
            refuse("another line end than in the lines before");
        }
        is_short_ = bases < entry.line_bases;
        entry.length += bases;
    }

    [[noreturn]] void refuse(const std::string& what) const {
        const std::string contig = entries_.empty() ? "" : " (contig " + entries_.back().name + ")";
        throw malformed_input("line " + std::to_string(line_number_) + contig + ": " + what);
    }

    std::vector<FastaEntry> entries_;
    std::string header_;
    Line kind_ = Line::unknown;
    std::int64_t read_ = 0;       // bytes before the place that is looked at
    std::int64_t line_size_ = 0;  // bytes of the line so far, without its newline
    std::int64_t line_number_ = 1;
    bool ends_with_return_ = false;
    bool is_short_ = false;  // the contig may have no further line
};

namespace detail {

[[noreturn]] inline void refuse_entry(const FastaEntry& entry, const std::string& what) {
    throw malformed_input("the index does not fit the file: " + what + " (contig " + entry.name + ")");
}

// Bounds the numbers by the file's size, so that no arithmetic on them can overflow.
inline void check_numbers(const FastaEntry& entry, std::int64_t file_size) {
    const std::int64_t line_end = entry.line_bytes - entry.line_bases;
    const bool are_in_range = entry.length >= 0 && entry.length <= file_size && entry.offset >= 0 &&
                              entry.offset <= file_size && entry.line_bases >= 0 && entry.line_bytes >= 0 &&
                              line_end >= 0 && line_end <= 2 && (entry.line_bases > 0 || entry.length == 0);
    if (!are_in_range) refuse_entry(entry, "its numbers are out of range");
    if (entry.end() > file_size) refuse_entry(entry, "its last base lies behind the end of the file");
    const bool lacks_line_end = line_end == 0 && entry.length > 0;
    if (lacks_line_end && (entry.length > entry.line_bases || entry.end() != file_size)) {
        refuse_entry(entry, "its lines have no line ends");
    }
}

// Removes the line end behind a last base, and empty lines.
inline void skip_line_ends(std::string_view& bytes, const FastaEntry& before) {
    const std::int64_t line_end = before.length > 0 ? before.line_bytes - before.line_bases : 0;
    const std::string_view expected = line_end == 2 ? "\r\n" : line_end == 1 ? "\n" : "";
    if (!bytes.empty() && !bytes.starts_with(expected)) {
        refuse_entry(before, "its last base is not followed by a line end");
    }
    while (bytes.starts_with("\n") || bytes.starts_with("\r\n")) {
        bytes.remove_prefix(bytes.front() == '\r' ? 2 : 1);
    }
}

// Lines, each of them empty or a header.
inline bool are_headers(std::string_view lines) {
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find('\n'));
        if (!line.empty() && line != "\r" && line.front() != '>') return false;
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    }
    return true;
}

// `lines` is all that stands between a contig's letters and those before. The last line is its header, which
// may end the file where it has no letters.
inline void check_header(std::string_view lines, const FastaEntry& entry, std::int64_t file_size) {
    const bool ends = lines.ends_with('\n') || entry.offset == file_size;
    const std::string_view before_end = lines.substr(0, lines.size() - (lines.ends_with('\n') ? 1 : 0));
    const std::size_t newline = before_end.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    std::string_view header = before_end.substr(begin);
    if (!ends || !header.starts_with('>') || !are_headers(lines.substr(0, begin))) {
        refuse_entry(entry, "its letters are not preceded by a header line");
    }
    header.remove_prefix(1);
    if (header.substr(0, header.find_first_of(" \t\r")) != entry.name) {
        refuse_entry(entry, "its header has another name");
    }
}

}  // namespace detail

// Throws malformed_input unless the entries, in the order of the file, cover it: before each contig stands
// its header, behind its last base a line end, and nothing elsewhere but headers of contigs without letters,
// which samtools leaves out of its index.
inline void check_entries(const ByteSource& file, std::span<const FastaEntry> entries) {
    constexpr std::int64_t longest_header = 1 << 24;
    std::string bytes;
    const FastaEntry none{};
    const FastaEntry* before = &none;
    // What stands between the last base of *before and `end`, without line ends.
    const auto between = [&](const FastaEntry& entry, std::int64_t end) {
        const std::int64_t begin = before->end();
        if (end < begin || end - begin > longest_header) {
            detail::refuse_entry(entry, "what stands before its letters is not one header");
        }
        bytes.resize(static_cast<std::size_t>(end - begin));
        file.read(begin, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
        std::string_view rest(bytes);
        detail::skip_line_ends(rest, *before);
        return rest;
    };
    for (const FastaEntry& entry : entries) {
        detail::check_numbers(entry, file.size());
        detail::check_header(between(entry, entry.offset), entry, file.size());
        before = &entry;
    }
    if (!detail::are_headers(between(*before, file.size()))) {
        detail::refuse_entry(*before, "more follows behind the last contig");
    }
}

}  // namespace fastgenome
