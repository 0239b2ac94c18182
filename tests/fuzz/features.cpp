// Base counts, k-mer counts by phase, z-curve parameters, windows and the z-curve of clean texts against
// definitions. A share of the texts is repeated to 5,000 bases, with long windows.
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fastgenome/base_counts.hpp"
#include "fastgenome/kmer_counts.hpp"
#include "fastgenome/rolling.hpp"
#include "fastgenome/window_rows.hpp"
#include "fastgenome/zcurve.hpp"
#include "fastgenome/zcurve_path.hpp"
#include "fuzzing.hpp"

namespace {

using fuzzing::require;

constexpr std::string_view bases = "ACGT";
constexpr auto digits = fuzzing::places_in(bases);

FUZZING_DEFINITION void count_by_definition(const std::uint8_t* text, std::size_t size, std::size_t k,
                                            std::size_t phases, std::int64_t* counts) {
    const std::int8_t* const digit_of = digits.data();
    for (std::size_t start = 0; start + k <= size; ++start) {
        std::size_t code = 0;
        bool is_known = true;
        for (std::size_t i = start; i < start + k; ++i) {
            is_known = is_known && digit_of[text[i]] >= 0;
            code = code * 4 + static_cast<std::size_t>(digit_of[text[i]] & 3);
        }
        if (is_known) ++counts[((start % phases) << (2 * k)) + code];
    }
}

FUZZING_DEFINITION bool is_curve(const std::uint8_t* text, std::size_t size, const std::int32_t* curve) {
    std::int32_t x = 0;
    std::int32_t y = 0;
    std::int32_t z = 0;
    for (std::size_t i = 0; i < size; ++i, curve += 3) {
        const std::uint8_t base = text[i];
        if (base != 'N') {
            x += base == 'A' || base == 'G' ? 1 : -1;
            y += base == 'A' || base == 'C' ? 1 : -1;
            z += base == 'A' || base == 'T' ? 1 : -1;
        }
        if (curve[0] != x || curve[1] != y || curve[2] != z) return false;
    }
    return true;
}

// Counts of the tables (k, phases) and (1, phases), of which the second is counted through the first.
std::vector<std::int64_t> expected_counts(fastgenome::Text text, int k, int phases) {
    const std::size_t first = static_cast<std::size_t>(phases) << (2 * k);
    std::vector<std::int64_t> counts(first + static_cast<std::size_t>(phases) * 4);
    count_by_definition(text.data(), text.size(), static_cast<std::size_t>(k),
                        static_cast<std::size_t>(phases), counts.data());
    count_by_definition(text.data(), text.size(), 1, static_cast<std::size_t>(phases), counts.data() + first);
    return counts;
}

void check_parameters(std::span<const std::int64_t> counts, const fastgenome::KmerTable& table,
                      const double* parameters) {
    std::int64_t total = 0;
    for (std::size_t prefix = 0; prefix * 4 < table.size(); ++prefix) {
        const auto four = counts.begin() + static_cast<std::ptrdiff_t>(prefix * 4);
        if (prefix * 4 % table.width == 0) {
            total = std::accumulate(four, four + static_cast<std::ptrdiff_t>(table.width), std::int64_t{0});
        }
        const std::int64_t a = four[0], c = four[1], g = four[2], t = four[3];
        for (const std::int64_t component : {a + g - c - t, a + c - g - t, a + t - c - g}) {
            const double value =
                total == 0 ? 0.0 : static_cast<double>(component) / static_cast<double>(total);
            require(std::abs(*parameters++ - value) <= 1e-15 * std::abs(value), "z-curve parameters");
        }
    }
}

void check_counts(fastgenome::Text text, int k, int phases) {
    const std::pair<int, int> blocks[] = {{k, phases}, {1, phases}};
    const fastgenome::ZCurveParameters rows(blocks, fastgenome::ZNorm::phase);
    const std::vector<std::int64_t> expected = expected_counts(text, k, phases);
    fuzzing::Buffer<std::uint32_t> counts(static_cast<std::int64_t>(expected.size()));
    fastgenome::count_kmers(text, rows.tables(), counts.data());
    require(std::ranges::equal(counts.span(), expected), "k-mer counts");
    fuzzing::Buffer<double> parameters(static_cast<std::int64_t>(rows.width()));
    rows.write(counts.data(), 0, static_cast<std::int64_t>(text.size()), parameters.data());
    for (const fastgenome::KmerTable& table : rows.tables().tables()) {
        check_parameters(std::span(expected).subspan(table.begin, table.size()), table,
                         parameters.data() + table.begin / 4 * 3);
    }
}

// Each window's row is that of the window by itself.
void check_windows(fastgenome::Text text, int k, int phases, std::int64_t length, std::int64_t stride) {
    const std::pair<int, int> blocks[] = {{k, phases}, {1, phases}};
    const fastgenome::ZCurveParameters rows(blocks, fastgenome::ZNorm::count);
    const fastgenome::Windows windows{length, stride};
    const auto width = static_cast<std::int64_t>(rows.width());
    const std::int64_t count = windows.count(static_cast<std::int64_t>(text.size()));
    fuzzing::Buffer<double> slid(count * width);
    fastgenome::write_window_rows(text, rows, windows, fastgenome::UnknownPolicy::skip, 1, slid.data());
    fuzzing::Buffer<std::uint32_t> counts(static_cast<std::int64_t>(rows.tables().size()));
    fuzzing::Buffer<double> row(width);
    // All windows of a short text, eight of a long one.
    const std::int64_t step = text.size() <= 64 ? 1 : std::max<std::int64_t>(1, (count - 1) / 7);
    for (std::int64_t w = 0; w < count; w += step) {
        const fastgenome::Text window =
            text.subspan(static_cast<std::size_t>(w * stride), static_cast<std::size_t>(length));
        fastgenome::count_kmers(window, rows.tables(), counts.data());
        rows.write(counts.data(), 0, length, row.data());
        require(std::equal(row.data(), row.data() + width, slid.data() + w * width), "rows of windows");
    }
}

void check_curve(fastgenome::Text text) {
    fuzzing::Buffer<std::int32_t> curve(3 * static_cast<std::int64_t>(text.size()));
    fastgenome::z_curve(text, curve.data());
    require(is_curve(text.data(), text.size(), curve.data()), "the z-curve");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int k = input.between(2, 3);
    const int phases = input.between(1, 4);
    const bool is_long = input.byte() >= 240;
    const int length = is_long ? input.between(1, 250) * 12 : input.between(1, 60);
    const int stride = is_long ? input.between(1, 250) * input.between(1, 16) : input.between(1, 70);
    std::vector<std::uint8_t> text = fuzzing::to_dna(input.rest());
    if (is_long) text = fuzzing::repeated(text, 5000);
    const auto counts = fastgenome::count_bases(text);
    for (std::size_t base = 0; base < 4; ++base) {
        require(counts[base] == std::ranges::count(text, static_cast<std::uint8_t>(bases[base])),
                "base counts");
    }
    check_counts(text, k, phases);
    check_curve(text);
    // Rows of many windows take longer than all else: short texts are cut here.
    const std::size_t most = is_long ? text.size() : 48;
    check_windows(fastgenome::Text(text).first(std::min(text.size(), most)), k, phases, length, stride);
    return 0;
}
