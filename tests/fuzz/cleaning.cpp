// Cleaning of any bytes against its rule, written out byte by byte.
#include <algorithm>

#include "fastgenome/only_bases.hpp"
#include "fuzzing.hpp"

namespace {

using fastgenome::CleaningCounts;
using fuzzing::require;

constexpr auto bases = fuzzing::places_in("ACGTN");
constexpr auto iupac = fuzzing::places_in("RYSWKMBDHV");

// Writes the cleaned text to `out` and returns its length.
FUZZING_DEFINITION std::int64_t clean_by_rule(const std::uint8_t* text, std::size_t size, std::uint8_t* out,
                                              CleaningCounts& counts) {
    const std::int8_t* const base_of = bases.data();
    const std::int8_t* const iupac_of = iupac.data();
    const std::int8_t* const white = fuzzing::white_space.data();
    bool has_t = false;
    for (std::size_t i = 0; i < size; ++i) has_t = has_t || (text[i] | 32) == 't';
    std::int64_t length = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const std::uint8_t byte = text[i];
        const bool is_lower = byte >= 'a' && byte <= 'z';
        const std::uint8_t letter = static_cast<std::uint8_t>(is_lower ? byte - 32 : byte);
        if (white[byte] >= 0) continue;
        if (letter == '-' || letter == '.') {
            ++counts.gaps;
            continue;
        }
        const bool is_base = base_of[letter] >= 0;
        const bool is_iupac = iupac_of[letter] >= 0;
        const bool is_u = letter == 'U';
        counts.lowercase += is_lower && (is_base || is_iupac || is_u);
        counts.iupac += is_iupac;
        counts.rna += is_u && !has_t;
        counts.invalid += (is_u && has_t) || (!is_base && !is_iupac && !is_u);
        out[length++] = is_base ? letter : is_u ? 'T' : 'N';
    }
    return length;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const fastgenome::Text text = input.rest();
    fuzzing::Buffer<std::uint8_t> out(static_cast<std::int64_t>(text.size()));
    const fastgenome::Cleaned cleaned = fastgenome::clean_into(text, out.span());

    CleaningCounts counts;
    fuzzing::Buffer<std::uint8_t> expected(static_cast<std::int64_t>(text.size()));
    const std::int64_t length = clean_by_rule(text.data(), text.size(), expected.data(), counts);
    require(cleaned.length == length && std::equal(out.data(), out.data() + length, expected.data()),
            "the cleaned text is the rule's");
    require(cleaned.counts.lowercase == counts.lowercase, "lower case is counted");
    require(cleaned.counts.rna == counts.rna, "U is counted");
    require(cleaned.counts.iupac == counts.iupac, "IUPAC codes are counted");
    require(cleaned.counts.gaps == counts.gaps, "gaps are counted");
    require(cleaned.counts.invalid == counts.invalid, "invalid characters are counted");
    const bool is_same = std::equal(text.begin(), text.end(), expected.data(), expected.data() + length);
    const bool is_changed = !is_same || counts.invalid > 0;
    require(fastgenome::only_upper_bases(text) == !is_changed,
            "a text is clean exactly when cleaning leaves it as it is");
    return 0;
}
