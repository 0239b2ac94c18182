// Push parser for FASTA and four-line FASTQ: bytes in, in pieces of any size; complete records out.
//
// The result does not depend on how the bytes are cut into pieces. Memory: the record being read, the last
// unfinished line, and the records not yet taken. Letters are kept as they stand (case, gaps, other
// alphabets); cleaning is a step of its own. Line ends are LF or CRLF; a UTF-8 byte order mark at the start
// is skipped. Nothing is dropped silently: every header becomes a record, and what cannot be read throws.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fastgenome {

// The bytes do not follow the format; the message names the record and the line (both from 1).
class malformed_input : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The bytes end inside a record.
class truncated_input : public malformed_input {
    using malformed_input::malformed_input;
};

struct sequence_record {
    std::string id;        // first word of the header; empty when the header is bare
    std::string sequence;  // letters of all lines, without line ends and blanks at line ends
    std::string defect;    // why the record cannot be used; empty for a sound record
};

enum class sequence_format { fasta, fastq };

class sequence_parser {
  public:
    explicit sequence_parser(sequence_format format) : format_(format) {}

    // Reads a piece. Throws malformed_input; the parser is of no further use then.
    void feed(std::string_view bytes) {
        for (std::size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
            if (unfinished_line_.empty()) {
                read_line(bytes.substr(0, end));
            } else {
                unfinished_line_.append(bytes.substr(0, end));
                read_line(unfinished_line_);
                unfinished_line_.clear();
            }
            bytes.remove_prefix(end + 1);
        }
        unfinished_line_.append(bytes);
    }

    // Declares the end of the input. Throws truncated_input when a FASTQ record lacks lines.
    void finish() {
        if (!unfinished_line_.empty()) {
            read_line(unfinished_line_);
            unfinished_line_.clear();
        }
        // A last record without bases may lack its empty quality line.
        const bool lacks_only_an_empty_quality = fastq_line_ == 3 && current_.sequence.empty();
        if (lacks_only_an_empty_quality) {
            end_record();
        } else if (fastq_line_ != 0) {
            throw truncated_input(place() + ": the input ends inside this FASTQ record");
        } else if (in_fasta_record_) {
            end_record();
        }
    }

    // Hands over the records completed since the last call.
    std::vector<sequence_record> take() { return std::exchange(complete_, {}); }

  private:
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

    void read_fasta_line(std::string_view line) {
        if (line.empty()) return;
        if (line.front() == '>') {
            if (in_fasta_record_) end_record();
            begin_record(line);
            in_fasta_record_ = true;
        } else if (in_fasta_record_) {
            current_.sequence.append(line);
        } else {
            throw malformed_input("line " + std::to_string(line_number_) + ": a FASTA file begins with '>'");
        }
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
                current_.sequence.assign(line);
                break;
            case 2:
                if (line.empty() || line.front() != '+') {
                    throw malformed_input(place() +
                                          ": the third line of a FASTQ record begins with '+' "
                                          "(sequences over several lines are not read)");
                }
                break;
            default:
                if (line.size() != current_.sequence.size()) {
                    current_.defect = std::to_string(current_.sequence.size()) + " bases but " +
                                      std::to_string(line.size()) + " quality values";
                }
                end_record();
                return;
        }
        ++fastq_line_;
    }

    void begin_record(std::string_view header) {
        ++record_number_;
        if (header.find('\r') != std::string_view::npos) {
            throw malformed_input(place() +
                                  ": lines end with a lone carriage return; convert them to newlines");
        }
        header.remove_prefix(1);
        const std::size_t first = header.find_first_not_of(" \t");
        header.remove_prefix(first == std::string_view::npos ? header.size() : first);
        current_.id.assign(header.substr(0, header.find_first_of(" \t")));
    }

    void end_record() {
        complete_.push_back(std::exchange(current_, {}));
        in_fasta_record_ = false;
        fastq_line_ = 0;
    }

    std::string place() const {
        return "record " + std::to_string(record_number_) + ", line " + std::to_string(line_number_);
    }

    sequence_format format_;
    std::vector<sequence_record> complete_;
    sequence_record current_;
    std::string unfinished_line_;
    std::int64_t line_number_ = 0;
    std::int64_t record_number_ = 0;
    bool in_fasta_record_ = false;
    int fastq_line_ = 0;  // line of the FASTQ record that comes next: 0 header, 1 bases, 2 '+', 3 quality
};

}  // namespace fastgenome
