// Push parser for FASTA and four-line FASTQ: bytes in, in pieces of any size; complete records out.
//
// The result does not depend on how the bytes are cut into pieces. Memory: the records not yet dropped, the
// one being read, and an unfinished line of another kind than FASTA letters. Letters are kept as they stand
// (case, gaps, other alphabets); cleaning is a step of its own. Line ends are LF or CRLF; a UTF-8 byte order
// mark at the start is skipped. Nothing is dropped silently: every header becomes a record, and what cannot
// be read throws.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "byte_buffer.hpp"
#include "byte_source.hpp"
#include "fasta_lines.hpp"
#include "input_errors.hpp"
#include "only_bases.hpp"

namespace fastgenome {

enum class sequence_format { fasta, fastq };

class sequence_parser {
  public:
    explicit sequence_parser(sequence_format format) : format_(format) {}

    // Reads a whole FASTA file and declares its end. Throws what reading and parsing throw. A piece of the
    // usual size stays in the second cache between reading and joining.
    void read_fasta(const ByteSource& file, std::int64_t piece = 1 << 17) {
        const std::int64_t size = file.size();
        letters_.reserve(size + 2 * joining_gap);
        for (std::int64_t offset = 0; offset < size; offset += piece) {
            const std::span<std::uint8_t> place = place_for(std::min(piece, size - offset));
            file.read(offset, place);
            feed({reinterpret_cast<const char*>(place.data()), place.size()});
        }
        file.check_unchanged();
        finish();
    }

    // Reads a piece. Throws malformed_input; the parser is of no further use then.
    void feed(std::string_view bytes) {
        forget_dropped();
        while (!bytes.empty()) {
            if (reads_letters()) bytes = read_letters(bytes);
            if (bytes.empty()) return;
            const std::size_t end = bytes.find('\n');
            if (end == std::string_view::npos) {
                unfinished_line_.append(bytes);
                return;
            }
            if (unfinished_line_.empty()) {
                read_line(bytes.substr(0, end));
            } else {
                unfinished_line_.append(bytes.substr(0, end));
                read_line(unfinished_line_);
                unfinished_line_.clear();
            }
            bytes.remove_prefix(end + 1);
        }
    }

    // Declares the end of the input. Throws truncated_input when a FASTQ record lacks lines.
    void finish() {
        if (line_is_open_) end_letters_line();
        if (!unfinished_line_.empty()) {
            read_line(unfinished_line_);
            unfinished_line_.clear();
        }
        // A last record without bases may lack its empty quality line.
        const bool lacks_only_an_empty_quality = fastq_line_ == 3 && letters_.size() == record_begin();
        if (lacks_only_an_empty_quality) {
            end_record();
        } else if (fastq_line_ != 0) {
            throw truncated_input(place() + ": the input ends inside this FASTQ record");
        } else if (in_fasta_record_) {
            end_record();
        }
    }

    // Complete records that were not dropped; the views hold until the next feed.
    std::int64_t size() const noexcept { return static_cast<std::int64_t>(records_.size()) - dropped_; }

    // First word of the header; empty when the header is bare.
    std::string_view id(std::int64_t index) const noexcept {
        const Record& record = records_[dropped_ + index];
        return std::string_view(ids_).substr(record.id_begin, record.id_size);
    }

    // Letters of all lines, without line ends and blanks at line ends.
    Text letters(std::int64_t index) const noexcept {
        const Record& record = records_[dropped_ + index];
        return {letters_.data() + record.begin, static_cast<std::size_t>(record.end - record.begin)};
    }

    // Whether all letters read so far are upper-case A, C, G, T or N, so that cleaning would change none.
    bool only_upper() const noexcept { return only_upper_; }

    // Why the record cannot be used; empty for a sound record.
    std::string_view defect(std::int64_t index) const noexcept {
        const auto found = defects_.find(dropped_ + index);
        return found == defects_.end() ? std::string_view() : std::string_view(found->second);
    }

    // Forgets the first complete records.
    void drop(std::int64_t count) noexcept { dropped_ += count; }

    // Hands over the letters of all complete records, one behind the other; the parser is empty then.
    ByteBuffer take_letters() noexcept {
        records_.clear();
        defects_.clear();
        ids_.clear();
        dropped_ = 0;
        return std::exchange(letters_, {});
    }

  private:
    struct Record {
        std::size_t id_begin;
        std::size_t id_size;
        std::int64_t begin;
        std::int64_t end;
    };

    bool reads_letters() const noexcept { return in_fasta_record_ && unfinished_line_.empty(); }

    // A place for the `size` bytes to be fed next, in the buffer that their letters go to: a second one would
    // be copied to and fro. For FASTA alone; FASTQ may keep more bytes back than the place has room for.
    std::span<std::uint8_t> place_for(std::int64_t size) {
        constexpr std::int64_t line = 64;  // of the cache; copies to its beginning are the fastest
        std::uint8_t* free = letters_.room(joining_gap + line + size) + joining_gap;
        const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(free) % line);
        return {free + (line - past), static_cast<std::size_t>(size)};
    }

    // Reads lines of letters of a FASTA record; returns the bytes from the next header on, or none.
    std::string_view read_letters(std::string_view bytes) {
        while (true) {
            bytes.remove_prefix(join_lines(bytes));
            if (bytes.empty() || (!line_is_open_ && bytes.front() == '>')) return bytes;
            // Up to the end of this line, whatever it holds.
            const std::size_t end = bytes.find('\n');
            append(bytes.substr(0, end));
            line_is_open_ = true;
            if (end == std::string_view::npos) return {};
            end_letters_line();
            bytes.remove_prefix(end + 1);
        }
    }

    // Takes what is plain; returns how many bytes that was.
    std::size_t join_lines(std::string_view bytes) {
        if (line_is_open_ && bytes.starts_with('\n')) trim_line();
        const auto size = static_cast<std::int64_t>(bytes.size());
        std::uint8_t* out = letters_.room(size);
        const auto* in = reinterpret_cast<const std::uint8_t*>(bytes.data());
        const JoinedLines done = dispatch<JoinLines>(in, size, out);
        if (done.read == 0) return 0;
        letters_.grow(done.written);
        only_upper_ = only_upper_ && done.only_upper;
        line_number_ += done.read - done.written;
        line_is_open_ = in[done.read - 1] != '\n';
        return static_cast<std::size_t>(done.read);
    }

    void append(std::string_view part) {
        const auto size = static_cast<std::int64_t>(part.size());
        const auto* letters = reinterpret_cast<const std::uint8_t*>(part.data());
        only_upper_ = only_upper_ && only_upper_bases({letters, part.size()});
        letters_.append(letters, size);
    }

    void end_letters_line() noexcept {
        trim_line();
        line_is_open_ = false;
        ++line_number_;
    }

    // Removes blanks at the end of a line; the line before has none.
    void trim_line() noexcept {
        std::int64_t end = letters_.size();
        while (end > record_begin() && is_blank(letters_.data()[end - 1])) --end;
        letters_.shrink_to(end);
    }

    static bool is_blank(std::uint8_t byte) noexcept { return byte == ' ' || byte == '\t' || byte == '\r'; }

    void read_line(std::string_view line) {
        if (++line_number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
        const std::size_t last = line.find_last_not_of(" \t\r");
        line = line.substr(0, last == std::string_view::npos ? 0 : last + 1);
        if (format_ == sequence_format::fasta) {
            read_fasta_line(line);
        } else {
            read_fastq_line(line);
        }
    }

    // A header, or a line before the first one.
    void read_fasta_line(std::string_view line) {
        if (line.empty()) return;
        if (line.front() != '>') {
            throw malformed_input("line " + std::to_string(line_number_) + ": a FASTA file begins with '>'");
        }
        if (in_fasta_record_) end_record();
        begin_record(line);
        in_fasta_record_ = true;
    }

    void read_fastq_line(std::string_view line) {
        switch (fastq_line_) {
            case 0:
                if (line.empty()) return;
                if (line.front() != '@') {
                    ++record_number_;
                    throw malformed_input(place() + ": a FASTQ record begins with '@' and has four lines");
                }
                begin_record(line);
                break;
            case 1:
                append(line);
                break;
            case 2:
                if (line.empty() || line.front() != '+') {
                    throw malformed_input(place() +
                                          ": the third line of a FASTQ record begins with '+' "
                                          "(sequences over several lines are not read)");
                }
                break;
            default:
                end_record();
                check_quality(line);
                return;
        }
        ++fastq_line_;
    }

    // Against the bases of the record that ends.
    void check_quality(std::string_view quality) {
        const std::int64_t bases = records_.back().end - records_.back().begin;
        if (static_cast<std::int64_t>(quality.size()) == bases) return;
        defects_[std::ssize(records_) - 1] =
            std::to_string(bases) + " bases but " + std::to_string(quality.size()) + " quality values";
    }

    void begin_record(std::string_view header) {
        ++record_number_;
        if (header.find('\r') != std::string_view::npos) {
            throw malformed_input(place() +
                                  ": lines end with a lone carriage return; convert them to newlines");
        }
        const auto is_gap = [](char byte) { return byte == ' ' || byte == '\t'; };
        const auto first = std::find_if_not(header.begin() + 1, header.end(), is_gap);
        ids_.append(first, std::find_if(first, header.end(), is_gap));
    }

    void end_record() {
        const std::size_t id_begin =
            records_.empty() ? 0 : records_.back().id_begin + records_.back().id_size;
        records_.push_back({id_begin, ids_.size() - id_begin, record_begin(), letters_.size()});
        in_fasta_record_ = false;
        fastq_line_ = 0;
    }

    // Where the letters of the record being read begin.
    std::int64_t record_begin() const noexcept { return records_.empty() ? 0 : records_.back().end; }

    void forget_dropped() {
        if (dropped_ == 0) return;
        const Record& last = records_[dropped_ - 1];
        const std::int64_t letters = last.end;
        const std::size_t id_bytes = last.id_begin + last.id_size;
        letters_.drop_front(letters);
        ids_.erase(0, id_bytes);
        records_.erase(records_.begin(), records_.begin() + dropped_);
        std::map<std::int64_t, std::string> left;
        for (auto& [index, defect] : defects_) {
            if (index >= dropped_) left.emplace(index - dropped_, std::move(defect));
        }
        defects_ = std::move(left);
        dropped_ = 0;
        for (Record& record : records_) {
            record.id_begin -= id_bytes;
            record.begin -= letters;
            record.end -= letters;
        }
    }

    std::string place() const {
        return "record " + std::to_string(record_number_) + ", line " + std::to_string(line_number_);
    }

    sequence_format format_;
    ByteBuffer letters_;  // of the records one behind the other, the one being read last
    std::string ids_;     // likewise
    std::vector<Record> records_;
    std::map<std::int64_t, std::string> defects_;  // by index in records_
    std::int64_t dropped_ = 0;
    std::string unfinished_line_;
    std::int64_t line_number_ = 0;
    std::int64_t record_number_ = 0;
    bool only_upper_ = true;
    bool in_fasta_record_ = false;
    bool line_is_open_ = false;  // a line of letters has begun and not ended
    int fastq_line_ = 0;  // line of the FASTQ record that comes next: 0 header, 1 bases, 2 '+', 3 quality
};

}  // namespace fastgenome
