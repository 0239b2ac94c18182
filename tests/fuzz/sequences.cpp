// FASTA and FASTQ of any bytes: pieces of any size give what the whole gives, and FASTA what its definition
// says.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fastgenome/fasta.hpp"
#include "fuzzing.hpp"
#include "memory_source.hpp"

namespace {

using fastgenome::sequence_format;
using fuzzing::require;

struct Record {
    std::string id;
    std::string sequence;
    std::string defect;
    bool operator==(const Record&) const = default;
};

struct Outcome {
    std::vector<Record> records;
    std::string error;
    bool is_truncated = false;
};

// Feeds pieces of `step` bytes and a varying number more.
Outcome read(sequence_format format, std::string_view bytes, std::size_t step, std::size_t spread) {
    fastgenome::sequence_parser parser(format);
    Outcome outcome;
    // Every third piece: the views hold until the next one.
    const auto take = [&] {
        for (std::int64_t i = 0; i < parser.size(); ++i) {
            const fastgenome::Text letters = parser.letters(i);
            outcome.records.push_back({std::string(parser.id(i)), std::string(letters.begin(), letters.end()),
                                       std::string(parser.defect(i))});
        }
        parser.drop(parser.size());
    };
    try {
        for (std::size_t at = 0, i = 0; at < bytes.size(); ++i) {
            // A piece of its own memory: views into it must not outlive the call.
            const std::string piece(bytes.substr(at, step + i * 7 % (spread + 1)));
            parser.feed(piece);
            at += piece.size();
            if (i % 3 == 0) take();
        }
        parser.finish();
    } catch (const fastgenome::truncated_input& error) {
        outcome.error = error.what();
        outcome.is_truncated = true;
    } catch (const fastgenome::malformed_input& error) {
        outcome.error = error.what();
    }
    take();
    return outcome;
}

// FASTA as a file is read, in pieces of `step` bytes within the buffer of the letters.
Outcome read_in_place(std::span<const std::uint8_t> bytes, std::size_t step) {
    fastgenome::sequence_parser parser(sequence_format::fasta);
    Outcome outcome;
    try {
        parser.read_fasta(fuzzing::MemorySource(bytes), static_cast<std::int64_t>(step));
    } catch (const fastgenome::malformed_input& error) {
        outcome.error = error.what();
    }
    for (std::int64_t i = 0; i < parser.size(); ++i) {
        const fastgenome::Text letters = parser.letters(i);
        outcome.records.push_back({std::string(parser.id(i)), std::string(letters.begin(), letters.end()),
                                   std::string(parser.defect(i))});
    }
    return outcome;
}

std::string_view trimmed(std::string_view line) {
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r'))
        line.remove_suffix(1);
    return line;
}

// Records of a FASTA file by its definition; false where it is malformed.
bool fasta_by_definition(std::string_view bytes, std::vector<Record>& records) {
    if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
    while (!bytes.empty()) {
        const std::size_t end = bytes.find('\n');
        const std::string_view line = trimmed(bytes.substr(0, end));
        bytes = end == std::string_view::npos ? std::string_view() : bytes.substr(end + 1);
        if (line.empty()) continue;
        if (line[0] != '>') {
            if (records.empty()) return false;
            records.back().sequence += line;
            continue;
        }
        if (line.find('\r') != std::string_view::npos) return false;
        std::size_t begin = 1;
        while (begin < line.size() && (line[begin] == ' ' || line[begin] == '\t')) ++begin;
        std::size_t stop = begin;
        while (stop < line.size() && line[stop] != ' ' && line[stop] != '\t') ++stop;
        records.push_back({std::string(line.substr(begin, stop - begin)), "", ""});
    }
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const auto format = input.byte() % 2 == 0 ? sequence_format::fasta : sequence_format::fastq;
    const std::size_t step = static_cast<std::size_t>(input.between(1, 160));
    const std::size_t spread = input.byte() % 32;
    const auto text = input.rest();
    const std::string_view bytes(reinterpret_cast<const char*>(text.data()), text.size());

    const Outcome whole = read(format, bytes, bytes.size() + 1, 0);
    const Outcome pieces = read(format, bytes, step, spread);
    require(whole.error == pieces.error && whole.is_truncated == pieces.is_truncated,
            "pieces fail as the whole");
    require(std::ranges::equal(whole.records, pieces.records), "pieces give the records of the whole");
    if (format == sequence_format::fasta) {
        const Outcome in_place = read_in_place(text, step);
        require(in_place.error == whole.error, "read in place, it fails as the whole");
        require(std::ranges::equal(in_place.records, whole.records), "read in place, the same records");
        std::vector<Record> expected;
        const bool is_sound = fasta_by_definition(bytes, expected);
        require(is_sound == whole.error.empty(), "FASTA is refused exactly where it is malformed");
        require(!is_sound || std::ranges::equal(whole.records, expected), "the records of the definition");
    }
    return 0;
}
