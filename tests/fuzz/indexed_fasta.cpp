// FASTA files of any bytes: the scanner's index, in pieces and whole; the genome that it opens; and indexes
// with wrong numbers, which must be refused or give the very letters all the same.
#include "fastgenome/indexed_fasta.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzzing.hpp"
#include "memory_source.hpp"

namespace {

using Entries = std::vector<fastgenome::FastaEntry>;
using fuzzing::require;

std::optional<Entries> scan(std::string_view bytes, std::size_t step) {
    fastgenome::FastaScanner scanner;
    try {
        for (std::size_t at = 0; at < bytes.size(); at += step) {
            const std::string piece(bytes.substr(at, step));
            scanner.feed(piece);
        }
        return scanner.finish();
    } catch (const fastgenome::malformed_input&) {
        return std::nullopt;
    }
}

bool is_equal(const fastgenome::FastaEntry& a, const fastgenome::FastaEntry& b) {
    return a.name == b.name && a.length == b.length && a.offset == b.offset && a.line_bases == b.line_bases &&
           a.line_bytes == b.line_bytes;
}

struct Contig {
    std::string name;
    std::string letters;
};

// Names and letters of a file that the scanner accepted, cleaned as a genome is.
std::vector<Contig> contigs_by_definition(std::string_view bytes, bool keep_case) {
    std::vector<Contig> contigs;
    while (!bytes.empty()) {
        std::string_view line = bytes.substr(0, bytes.find('\n'));
        bytes.remove_prefix(std::min(line.size() + 1, bytes.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.starts_with('>')) {
            contigs.push_back({std::string(line.substr(1, line.find_first_of(" \t") - 1)), ""});
            continue;
        }
        for (const char letter : line) {
            const char upper = letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter;
            const char cleaned = upper == 'U'                                                        ? 'T'
                                 : fuzzing::places_in("ACGT")[static_cast<std::uint8_t>(upper)] >= 0 ? upper
                                                                                                     : 'N';
            const bool is_kept_lower = keep_case && upper != letter;
            contigs.back().letters += static_cast<char>(is_kept_lower ? cleaned | 0x20 : cleaned);
        }
    }
    return contigs;
}

void check_letters(fastgenome::Text file, Entries entries, bool keep_case, bool is_right,
                   fuzzing::Input& input) {
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
    const std::vector<Contig> expected = contigs_by_definition(bytes, keep_case);
    const auto is_known = [&](const std::string& name, const std::vector<std::uint8_t>& letters) {
        for (const Contig& contig : expected) {
            if (contig.name == name && contig.letters == std::string(letters.begin(), letters.end()))
                return true;
        }
        return false;
    };
    try {
        const fastgenome::IndexedFasta genome(std::make_unique<fuzzing::MemorySource>(file),
                                              std::move(entries), keep_case);
        for (std::size_t i = 0; i < genome.contigs().size(); ++i) {
            const fastgenome::Region whole{static_cast<std::int64_t>(i), 0, genome.contigs()[i].length};
            std::vector<std::uint8_t> letters;
            const bool is_read = fuzzing::read_region(genome, whole, letters);
            require(is_read || !is_right, "what the scanner accepted is read");
            require(!is_read || is_known(genome.contigs()[i].name, letters),
                    "the letters are those of the file");
            if (i < 3) fuzzing::check_parts(genome, whole.contig, input);
        }
    } catch (const fastgenome::malformed_input&) {
        require(!is_right, "the scanner's own index is accepted");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const bool keep_case = input.byte() % 2 == 1;
    const std::size_t step = static_cast<std::size_t>(input.between(1, 80));
    const int wrong = input.byte();
    const auto change = static_cast<std::int8_t>(input.byte());
    fuzzing::Input places = input;
    const fastgenome::Text file = input.rest();
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());

    auto entries = scan(bytes, bytes.size() + 1);
    const auto pieces = scan(bytes, step);
    require(entries.has_value() == pieces.has_value(), "pieces are refused where the whole is");
    if (!entries) return 0;
    require(std::ranges::equal(*entries, *pieces, is_equal), "pieces give the index of the whole");
    check_letters(file, *entries, keep_case, true, places);
    if (entries->empty() || change == 0) return 0;
    fastgenome::FastaEntry& entry = (*entries)[static_cast<std::size_t>(wrong / 4) % entries->size()];
    if (wrong >= 128 && entry.length > 0) {
        // Other lines that end at the same byte: the ends of the file's own lines give them away.
        const std::int64_t span = entry.end() - entry.offset;
        const std::int64_t line_end = entry.line_bytes - entry.line_bases;
        entry.line_bases = std::max<std::int64_t>(1, entry.line_bases + change);
        entry.line_bytes = entry.line_bases + line_end;
        const std::int64_t last = span % entry.line_bytes;
        entry.length = span / entry.line_bytes * entry.line_bases + std::min(last, entry.line_bases);
        check_letters(file, *entries, keep_case, false, places);
        return 0;
    }
    std::int64_t* const numbers[] = {&entry.length, &entry.offset, &entry.line_bases, &entry.line_bytes};
    *numbers[wrong % 4] += change;
    check_letters(file, *entries, keep_case, false, places);
    return 0;
}
