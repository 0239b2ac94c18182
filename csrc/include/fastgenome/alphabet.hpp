// The nucleotide alphabet and the cleaning of one sequence.
//
// Contract: nothing here throws, allocates or reads outside its spans. Text is one byte per character;
// characters beyond Latin-1 must arrive as `substitute` (or as a space where they are white space).
//
// Cleaning of one character, the first rule that fits:
//   A C G T N      kept
//   a c g t n      upper-cased, counted as lowercase
//   U u            T, counted as rna; where the sequence also holds T or t, counted as invalid instead, for
//                  such a sequence is neither DNA nor RNA
//   R Y S W K M B D H V, either case       N, counted as iupac
//   - .            removed, counted as gaps
//   white space    removed, not counted: line ends and blocks of ten are layout
//   other          N, counted as invalid: the caller is expected to refuse the sequence
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace fastgenome {

using Text = std::span<const std::uint8_t>;

// Stands for a character beyond Latin-1 (ASCII SUB, "substitute"); part of no vocabulary.
inline constexpr std::uint8_t substitute = 0x1A;

struct CleaningCounts {
    std::int64_t lowercase = 0;
    std::int64_t rna = 0;
    std::int64_t iupac = 0;
    std::int64_t gaps = 0;
    std::int64_t invalid = 0;
};

struct Cleaned {
    std::int64_t length = 0;  // bytes written
    CleaningCounts counts;
};

constexpr bool is_space(std::uint8_t byte) noexcept {
    // Python's str.isspace() for Latin-1: tab to carriage return, the four separators, space, NEL and NBSP.
    return (byte >= 0x09 && byte <= 0x0D) || (byte >= 0x1C && byte <= 0x20) || byte == 0x85 || byte == 0xA0;
}

namespace detail {

// Six counters of ten bits in one word, so that counting costs one addition per character.
enum class Field : int { lowercase, rna, iupac, gaps, invalid, thymine };
inline constexpr int field_bits = 10;
inline constexpr std::int64_t field_capacity = (1 << field_bits) - 1;

constexpr std::uint64_t one(Field field) noexcept {
    return std::uint64_t{1} << (field_bits * static_cast<int>(field));
}

struct CleaningRule {
    std::uint64_t increments;
    std::uint8_t replacement;
    std::uint8_t kept;  // 1 or 0
};

constexpr std::array<CleaningRule, 256> make_cleaning_rules() noexcept {
    std::array<CleaningRule, 256> rules{};
    for (int byte = 0; byte < 256; ++byte) {
        rules[byte] = is_space(static_cast<std::uint8_t>(byte)) ? CleaningRule{0, 'N', 0}
                                                                : CleaningRule{one(Field::invalid), 'N', 1};
    }
    const auto set = [&rules](char letter, char replacement, std::uint64_t increments) {
        const auto to = static_cast<std::uint8_t>(replacement);
        rules[static_cast<std::uint8_t>(letter)] = {increments, to, 1};
        rules[static_cast<std::uint8_t>(letter) | 0x20] = {increments + one(Field::lowercase), to, 1};
    };
    for (const char letter : std::string_view("ACGN")) set(letter, letter, 0);
    set('T', 'T', one(Field::thymine));
    set('U', 'T', one(Field::rna));
    for (const char letter : std::string_view("RYSWKMBDHV")) set(letter, 'N', one(Field::iupac));
    for (const char gap : std::string_view("-.")) {
        rules[static_cast<std::uint8_t>(gap)] = {one(Field::gaps), 'N', 0};
    }
    return rules;
}

inline constexpr auto cleaning_rules = make_cleaning_rules();

}  // namespace detail

// Writes the cleaned sequence to `out`, which must hold at least text.size() bytes.
inline Cleaned clean_into(Text text, std::span<std::uint8_t> out) noexcept {
    const auto size = static_cast<std::int64_t>(text.size());
    std::array<std::int64_t, 6> totals{};
    std::uint8_t* end = out.data();
    for (std::int64_t start = 0; start < size; start += detail::field_capacity) {
        const std::int64_t stop =
            start + detail::field_capacity < size ? start + detail::field_capacity : size;
        std::uint64_t fields = 0;
        for (std::int64_t i = start; i < stop; ++i) {
            const detail::CleaningRule& rule = detail::cleaning_rules[text[i]];
            *end = rule.replacement;
            end += rule.kept;
            fields += rule.increments;
        }
        for (int field = 0; field < 6; ++field) {
            totals[field] += (fields >> (field * detail::field_bits)) & detail::field_capacity;
        }
    }
    const auto total = [&totals](detail::Field field) { return totals[static_cast<int>(field)]; };
    Cleaned result{end - out.data(),
                   {total(detail::Field::lowercase), total(detail::Field::rna), total(detail::Field::iupac),
                    total(detail::Field::gaps), total(detail::Field::invalid)}};
    if (result.counts.rna > 0 && total(detail::Field::thymine) > 0) {
        result.counts.invalid += result.counts.rna;
        result.counts.rna = 0;
    }
    return result;
}

}  // namespace fastgenome
