// Cleaning of any bytes against its rule, written out byte by byte.
#include <string>

#include "fuzzing.hpp"

namespace {

using fastgenome::CleaningCounts;
using fuzzing::require;

constexpr auto bases = fuzzing::places_in("ACGTN");
constexpr auto iupac = fuzzing::places_in("RYSWKMBDHV");

std::uint8_t upper(std::uint8_t byte) {
    return static_cast<std::uint8_t>(byte >= 'a' && byte <= 'z' ? byte - 32 : byte);
}

std::string clean_by_rule(fastgenome::Text text, CleaningCounts& counts) {
    bool has_t = false;
    for (const std::uint8_t byte : text) has_t = has_t || upper(byte) == 'T';
    std::string cleaned;
    cleaned.reserve(text.size());
    for (const std::uint8_t byte : text) {
        const std::uint8_t letter = upper(byte);
        if (fuzzing::white_space[byte] >= 0) continue;
        if (letter == '-' || letter == '.') {
            ++counts.gaps;
            continue;
        }
        const bool is_base = bases[letter] >= 0;
        const bool is_iupac = iupac[letter] >= 0;
        if (byte != letter && (is_base || is_iupac || letter == 'U')) ++counts.lowercase;
        if (is_iupac) ++counts.iupac;
        if (letter == 'U') ++(has_t ? counts.invalid : counts.rna);
        if (!is_base && !is_iupac && letter != 'U') ++counts.invalid;
        cleaned += is_base ? static_cast<char>(letter) : letter == 'U' ? 'T' : 'N';
    }
    return cleaned;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const fastgenome::Text text = input.rest();
    fuzzing::Buffer<std::uint8_t> out(static_cast<std::int64_t>(text.size()));
    const fastgenome::Cleaned cleaned = fastgenome::clean_into(text, out.span());

    CleaningCounts counts;
    const std::string expected = clean_by_rule(text, counts);
    const std::string got(out.data(), out.data() + cleaned.length);
    require(got == expected, "the cleaned text is the rule's");
    require(cleaned.counts.lowercase == counts.lowercase, "lower case is counted");
    require(cleaned.counts.rna == counts.rna, "U is counted");
    require(cleaned.counts.iupac == counts.iupac, "IUPAC codes are counted");
    require(cleaned.counts.gaps == counts.gaps, "gaps are counted");
    require(cleaned.counts.invalid == counts.invalid, "invalid characters are counted");
    const std::string before(text.begin(), text.end());
    const bool is_changed = before != expected || counts.invalid > 0;
    require(fastgenome::is_clean(text) == !is_changed,
            "a text is clean exactly when cleaning leaves it as it is");
    return 0;
}
