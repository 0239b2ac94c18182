// Curves along sequences for Python: one number, or three, per base, sequence behind sequence.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/cleaner.hpp"
#include "fastgenome/zcurve_path.hpp"
#include "feature_rows.hpp"
#include "register.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace fastgenome {
namespace {

// Where each sequence's curve begins, the total last; `shorter` points are missing to its length. Cleaning
// may remove gaps, so lengths are known only after it.
py::tuple curve_offsets(const py::object& sequences, std::int64_t shorter, int threads) {
    const TextBatch batch(sequences);
    py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(batch.size()) + 1);
    const auto starts = mutable_view(offsets);
    std::int64_t first_invalid = -1;
    starts[0] = 0;
    {
        const py::gil_scoped_release released;
        first_invalid = for_each_clean(batch.texts(), threads, [&] {
            return [&](Text text, std::int64_t i) noexcept {
                const auto size = static_cast<std::int64_t>(text.size());
                starts[static_cast<std::size_t>(i) + 1] = std::max<std::int64_t>(0, size - shorter);
            };
        });
    }
    if (*std::ranges::max_element(starts) > std::numeric_limits<std::int32_t>::max())
        throw py::value_error("a sequence has 2^31 bases or more");
    for (std::size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    return py::make_tuple(std::move(offsets), first_invalid);
}

// Writes `width` numbers per point; write(text, out) is called for each cleaned sequence. Throws where the
// offsets are not those of the sequences.
template <typename Write>
void write_curves(const py::object& sequences, const InputArray<std::int64_t>& offsets, const py::array& out,
                  std::int64_t width, std::int64_t shorter, int threads, Write&& write) {
    const TextBatch batch(sequences);
    const auto starts = view(offsets);
    const auto in_order = [&] { return starts[0] == 0 && std::ranges::is_sorted(starts); };
    if (starts.size() != batch.size() + 1 || !in_order())
        throw py::value_error("offsets do not belong to the sequences");
    std::int32_t* const points = checked_rows<std::int32_t>(out, starts.back(), width);
    std::atomic<bool> fits = true;
    {
        const py::gil_scoped_release released;
        for_each_clean(batch.texts(), threads, [&] {
            return [&](Text text, std::int64_t i) noexcept {
                const auto begin = starts[static_cast<std::size_t>(i)];
                const auto size = starts[static_cast<std::size_t>(i) + 1] - begin;
                if (size == std::max<std::int64_t>(0, static_cast<std::int64_t>(text.size()) - shorter)) {
                    write(text, points + width * begin);
                } else {
                    fits = false;
                }
            };
        });
    }
    if (!fits) throw py::value_error("offsets do not belong to the sequences");
}

void zcurve_curves(const py::object& sequences, const InputArray<std::int64_t>& offsets, const py::array& out,
                   int threads) {
    write_curves(sequences, offsets, out, 3, 0, threads,
                 [](Text text, std::int32_t* to) { z_curve(text, to); });
}

void step_curves(const py::object& sequences, const InputArray<std::int64_t>& offsets, const BaseSteps& steps,
                 const py::array& out, int threads) {
    write_curves(sequences, offsets, out, 1, 0, threads,
                 [&steps](Text text, std::int32_t* to) { step_curve(text, steps, to); });
}

void cpg_curves(const py::object& sequences, const InputArray<std::int64_t>& offsets, const py::array& out,
                int threads) {
    write_curves(sequences, offsets, out, 1, 1, threads,
                 [](Text text, std::int32_t* to) { cpg_curve(text, to); });
}

Trend trend_of(std::string_view name) {
    if (name == "fit") return Trend::fit;
    if (name == "ends") return Trend::ends;
    throw py::value_error("trend must be 'fit' or 'ends'");
}

py::array_t<double> subtract_trends(const InputArray<std::int32_t>& values,
                                    const InputArray<std::int64_t>& offsets, std::string_view trend,
                                    const py::array& out) {
    const auto points = view(values);
    const auto starts = view(offsets);
    const Trend kind = trend_of(trend);
    const auto total = static_cast<std::int64_t>(points.size());
    const bool in_order = !starts.empty() && starts.front() == 0 && starts.back() == total;
    if (!in_order || !std::ranges::is_sorted(starts))
        throw py::value_error("offsets must rise from 0 to the number of values");
    double* const detrended = checked_rows<double>(out, total, 1);
    py::array_t<double> slopes(static_cast<py::ssize_t>(starts.size()) - 1);
    const auto found = mutable_view(slopes);
    const py::gil_scoped_release released;
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
        const auto begin = static_cast<std::size_t>(starts[i]);
        const auto curve = points.subspan(begin, static_cast<std::size_t>(starts[i + 1]) - begin);
        found[i] = slope_of(curve, kind);
        subtract_trend(curve, found[i], detrended + begin);
    }
    return slopes;
}

}  // namespace

void register_curves(py::module_& module) {
    module.def("curve_offsets", &curve_offsets, "sequences"_a, "shorter"_a = 0, "threads"_a = 0,
               "Offsets int64 (n + 1,) of curves of one point per base, less `shorter`, and the first "
               "sequence that is not DNA, or -1.");
    module.def("zcurve_curves", &zcurve_curves, "sequences"_a, "offsets"_a, "out"_a, "threads"_a = 0,
               "z-curves into int32 (total, 3).");
    module.def("step_curves", &step_curves, "sequences"_a, "offsets"_a, "steps"_a, "out"_a, "threads"_a = 0,
               "Sums of what each of A, C, G, T adds, into int32 (total, 1).");
    module.def("cpg_curves", &cpg_curves, "sequences"_a, "offsets"_a, "out"_a, "threads"_a = 0,
               "CpG less other dinucleotides, into int32 (total, 1); one point less than bases.");
    module.def("subtract_trends", &subtract_trends, "values"_a, "offsets"_a, "trend"_a, "out"_a,
               "Curves less slope * n into float64 (total, 1); returns the slopes float64 (n,).");
}

}  // namespace fastgenome
