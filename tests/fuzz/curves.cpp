// Curves of any steps and the CpG profile of clean texts, and their trends, against definitions.
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "fastgenome/zcurve_path.hpp"
#include "fuzzing.hpp"

namespace {

using fuzzing::require;

constexpr std::string_view bases = "ACGT";
constexpr auto digits = fuzzing::places_in(bases);

FUZZING_DEFINITION bool is_step_curve(const std::uint8_t* text, std::size_t size, const std::int32_t* steps,
                                      const std::int32_t* curve) {
    const std::int8_t* const digit_of = digits.data();
    std::int32_t at = 0;
    for (std::size_t i = 0; i < size; ++i) {
        if (digit_of[text[i]] >= 0) at += steps[digit_of[text[i]]];
        if (curve[i] != at) return false;
    }
    return true;
}

FUZZING_DEFINITION bool is_cpg_curve(const std::uint8_t* text, std::size_t size, const std::int32_t* curve) {
    std::int32_t at = 0;
    for (std::size_t i = 1; i < size; ++i) {
        if (text[i - 1] == 'C' && text[i] == 'G') {
            ++at;
        } else if (text[i - 1] != 'N' && text[i] != 'N') {
            --at;
        }
        if (curve[i - 1] != at) return false;
    }
    return true;
}

// The slope of least squares by the sums of the textbook, in more digits than the core has.
FUZZING_DEFINITION long double fitted_slope(const std::int32_t* curve, std::size_t size) {
    const auto n = static_cast<long double>(size);
    long double x = 0, y = 0, xx = 0, xy = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const auto place = static_cast<long double>(i + 1);
        x += place;
        y += curve[i];
        xx += place * place;
        xy += place * curve[i];
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

void check_trends(std::span<const std::int32_t> curve) {
    const double ends = fastgenome::slope_of(curve, fastgenome::Trend::ends);
    const double fit = fastgenome::slope_of(curve, fastgenome::Trend::fit);
    if (curve.size() < 2) {
        require(ends == 0.0 && fit == 0.0, "a point has no slope");
        return;
    }
    require(ends == curve.back() / static_cast<double>(curve.size()), "the line to the last point");
    long double largest = 1;
    for (const std::int32_t value : curve) largest = std::max<long double>(largest, std::abs(value));
    require(std::abs(static_cast<long double>(fit) - fitted_slope(curve.data(), curve.size())) <=
                1e-12L * largest,
            "the line of least squares");
    fuzzing::Buffer<double> rest(static_cast<std::int64_t>(curve.size()));
    fastgenome::subtract_trend(curve, ends, rest.data());
    for (std::size_t i = 0; i < curve.size(); ++i)
        require(rest[i] == curve[i] - ends * static_cast<double>(i + 1), "the curve without its trend");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    fastgenome::BaseSteps steps;
    for (std::int32_t& step : steps) step = input.between(0, 255) - 128;
    const std::vector<std::uint8_t> text = fuzzing::to_dna(input.rest());
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<std::int32_t> curve(length);
    fastgenome::step_curve(text, steps, curve.data());
    require(is_step_curve(text.data(), text.size(), steps.data(), curve.data()), "the curve of the steps");
    check_trends(curve.span());
    fuzzing::Buffer<std::int32_t> profile(std::max<std::int64_t>(length - 1, 0));
    fastgenome::cpg_curve(text, profile.data());
    require(is_cpg_curve(text.data(), text.size(), profile.data()), "the CpG profile");
    return 0;
}
