// Counts and frequencies of k-mers through a map of columns, of whole texts and of windows, against their
// definition. A share of the texts is repeated to 5,000 bases, with long windows.
#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "fastgenome/kmer_frequencies.hpp"
#include "fastgenome/window_rows.hpp"
#include "fuzzing.hpp"

namespace {

using fastgenome::Text;
using fuzzing::require;

constexpr int longest_k = 6;
constexpr std::string_view bases = "ACGT";
constexpr auto digits = fuzzing::places_in(bases);

std::size_t reverse_complement(std::size_t code, int k) {
    std::size_t opposite = 0;
    for (int i = 0; i < k; ++i, code /= 4) opposite = opposite * 4 + 3 - code % 4;
    return opposite;
}

enum Map { each_its_own, canonical, any };

struct Columns {
    std::vector<std::uint16_t> of_code;
    std::size_t width = 0;
};

Columns make_columns(int k, int map) {
    Columns made;
    for (std::size_t code = 0; code < std::size_t{1} << (2 * k); ++code) {
        const std::size_t opposite = reverse_complement(code, k);
        std::size_t column = made.width;
        if (map == canonical && opposite < code) column = made.of_code[opposite];
        if (map == any) column = code * 31 % 7;
        made.of_code.push_back(static_cast<std::uint16_t>(column));
        made.width = std::max(made.width, column + 1);
    }
    return made;
}

struct Plan {
    Columns columns;
    std::unique_ptr<fastgenome::KmerRows> rows;
};

const Plan& plan_of(int k, int map, bool frequencies) {
    static std::array<Plan, (longest_k + 1) * 6> plans;
    Plan& plan = plans[static_cast<std::size_t>(k * 6 + map * 2 + frequencies)];
    if (plan.rows == nullptr) {
        plan.columns = make_columns(k, map);
        plan.rows =
            std::make_unique<fastgenome::KmerRows>(k, plan.columns.of_code, plan.columns.width, frequencies);
    }
    return plan;
}

FUZZING_DEFINITION std::int64_t count_by_definition(const std::uint8_t* text, std::size_t size, std::size_t k,
                                                    const std::uint16_t* columns, std::int64_t* counts) {
    const std::int8_t* const digit_of = digits.data();
    std::int64_t total = 0;
    for (std::size_t start = 0; start + k <= size; ++start) {
        std::size_t code = 0;
        bool is_known = true;
        for (std::size_t i = start; i < start + k; ++i) {
            is_known = is_known && digit_of[text[i]] >= 0;
            code = code * 4 + static_cast<std::size_t>(digit_of[text[i]] & 3);
        }
        if (is_known) {
            ++counts[columns[code]];
            ++total;
        }
    }
    return total;
}

// Counts, or each divided by their sum and rounded once; float is that rounded once more.
template <typename Value>
void require_row(Text text, int k, const Plan& plan, bool frequencies, const Value* row) {
    std::vector<std::int64_t> counts(plan.columns.width);
    const std::int64_t total = count_by_definition(text.data(), text.size(), static_cast<std::size_t>(k),
                                                   plan.columns.of_code.data(), counts.data());
    const double divisor = frequencies && total > 0 ? static_cast<double>(total) : 1.0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        require(row[i] == static_cast<Value>(static_cast<double>(counts[i]) / divisor), "the row of a text");
    }
}

template <typename Value>
void check(fuzzing::Input& input) {
    const bool is_long = input.byte() >= 240;
    const int k = input.between(1, longest_k);
    const int map = input.between(each_its_own, any);
    const bool frequencies = input.byte() % 2 == 1;
    const std::int64_t length = is_long ? input.between(1, 250) * 12 : input.between(1, 60);
    const std::int64_t stride = is_long ? input.between(1, 250) * input.between(1, 16) : input.between(1, 70);
    std::vector<std::uint8_t> owned = fuzzing::to_dna(input.rest());
    if (is_long) owned = fuzzing::repeated(owned, 5000);
    Text text = owned;

    const Plan& plan = plan_of(k, map, frequencies);
    const fastgenome::KmerRows& rows = *plan.rows;
    const auto width = static_cast<std::int64_t>(rows.width());
    fuzzing::Buffer<std::uint32_t> counts(static_cast<std::int64_t>(rows.tables().size()));
    fuzzing::Buffer<Value> row(width);
    fastgenome::count_kmers(text, rows.tables(), counts.data());
    rows.write(static_cast<const std::uint32_t*>(counts.data()), 0, 0, row.data());
    require_row(text, k, plan, frequencies, static_cast<const Value*>(row.data()));

    // Rows of many windows take longer than all else: short texts are cut here.
    if (!is_long) text = text.first(std::min<std::size_t>(text.size(), 48));
    const fastgenome::Windows windows{length, is_long ? std::max<std::int64_t>(stride, 50) : stride};
    const std::int64_t count = windows.count(static_cast<std::int64_t>(text.size()));
    fuzzing::Buffer<Value> slid(count * width);
    fastgenome::write_window_rows(text, rows, windows, fastgenome::UnknownPolicy::skip, 1, slid.data());
    const std::int64_t step = is_long ? std::max<std::int64_t>(1, (count - 1) / 7) : 1;
    for (std::int64_t w = 0; w < count; w += step) {
        const Text window =
            text.subspan(static_cast<std::size_t>(w * windows.stride), static_cast<std::size_t>(length));
        require_row(window, k, plan, frequencies, static_cast<const Value*>(slid.data() + w * width));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    if (input.byte() % 2 == 0) {
        check<double>(input);
    } else {
        check<float>(input);
    }
    return 0;
}
