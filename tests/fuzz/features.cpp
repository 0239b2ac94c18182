// Base counts, k-mer counts by phase, z-curve parameters and the z-curve of clean texts against definitions.
#include "fastgenome/features.hpp"

#include <cmath>
#include <numeric>
#include <string_view>
#include <vector>

#include "fuzzing.hpp"

namespace {

using fuzzing::require;

constexpr std::string_view bases = "ACGT";
constexpr auto digits = fuzzing::places_in(bases);

// Any bytes as a clean text: one in sixteen is N.
std::vector<std::uint8_t> to_dna(fastgenome::Text bytes) {
    std::vector<std::uint8_t> text(bytes.begin(), bytes.end());
    for (std::uint8_t& byte : text) byte = static_cast<std::uint8_t>(byte < 16 ? 'N' : bases[byte % 4]);
    return text;
}

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

void check_counts(fastgenome::Text text, int k, int phases) {
    std::vector<std::int64_t> expected(static_cast<std::size_t>(phases) << (2 * k));
    count_by_definition(text.data(), text.size(), static_cast<std::size_t>(k),
                        static_cast<std::size_t>(phases), expected.data());
    fuzzing::Buffer<std::int64_t> counts(static_cast<std::int64_t>(expected.size()));
    std::ranges::fill(counts.span(), 0);
    fastgenome::count_kmers(text, k, phases, counts.span());
    require(std::ranges::equal(counts.span(), expected), "k-mer counts");

    const std::int64_t width = fastgenome::z_parameter_count(k, phases);
    fuzzing::Buffer<double> parameters(width);
    fastgenome::z_parameters(counts.span(), k, phases, parameters.span());
    const std::size_t columns = std::size_t{1} << (2 * k);
    std::int64_t total = 0;
    for (std::size_t row = 0; row * 3 < static_cast<std::size_t>(width); ++row) {
        if (row * 4 % columns == 0) {
            const auto phase = expected.begin() + static_cast<std::ptrdiff_t>(row * 4);
            total = std::accumulate(phase, phase + static_cast<std::ptrdiff_t>(columns), std::int64_t{0});
        }
        const std::int64_t a = expected[row * 4], c = expected[row * 4 + 1];
        const std::int64_t g = expected[row * 4 + 2], t = expected[row * 4 + 3];
        const std::int64_t components[] = {a + g - c - t, a + c - g - t, a + t - c - g};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const double value =
                total == 0 ? 0.0 : static_cast<double>(components[axis]) / static_cast<double>(total);
            require(std::abs(parameters[row * 3 + axis] - value) <= 1e-15 * std::abs(value),
                    "z-curve parameters");
        }
    }
}

void check_curve(fastgenome::Text text) {
    fuzzing::Buffer<std::int32_t> curve(3 * static_cast<std::int64_t>(text.size()));
    fastgenome::z_curve(text, curve.span());
    require(is_curve(text.data(), text.size(), curve.data()), "the z-curve");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int k = input.between(1, 3);
    const int phases = input.between(1, 4);
    const std::vector<std::uint8_t> text = to_dna(input.rest());
    const auto counts = fastgenome::count_bases(text);
    for (std::size_t base = 0; base < 4; ++base) {
        require(counts[base] == std::ranges::count(text, static_cast<std::uint8_t>(bases[base])),
                "base counts");
    }
    check_counts(text, k, phases);
    check_curve(text);
    return 0;
}
