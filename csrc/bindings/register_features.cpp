// Features for Python: one row per sequence, or one per base for the z-curve. Sequences are cleaned first;
// each function also returns the index of the first sequence that is not DNA, or -1.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/cleaner.hpp"
#include "fastgenome/features.hpp"
#include "register.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace fastgenome {
namespace {

void check_k(int k) {
    if (k < 1 || k > maximum_k) throw py::value_error("k must lie between 1 and 8");
}

// An array (rows, columns) that `make_row(out)` functions fill, one call per cleaned text.
template <typename T, typename MakeRow>
py::tuple fill_rows(const py::object& sequences, std::int64_t columns, int threads, MakeRow&& make_row) {
    const TextBatch batch(sequences);
    py::array_t<T> rows({static_cast<py::ssize_t>(batch.size()), static_cast<py::ssize_t>(columns)});
    const std::span<T> all = mutable_view(rows);
    std::int64_t first_invalid = -1;
    {
        const py::gil_scoped_release released;
        first_invalid = for_each_clean(batch.texts(), threads, [&] {
            return [&, row = make_row()](Text text, std::int64_t i) mutable {
                row(text,
                    all.subspan(static_cast<std::size_t>(i * columns), static_cast<std::size_t>(columns)));
            };
        });
    }
    return py::make_tuple(std::move(rows), first_invalid);
}

py::tuple base_counts(const py::object& sequences) {
    // Counting keeps up with memory on one thread.
    return fill_rows<std::int64_t>(sequences, 4, 1, [] {
        return [](Text text, std::span<std::int64_t> out) noexcept {
            std::ranges::copy(count_bases(text), out.begin());
        };
    });
}

py::tuple kmer_rows(const py::object& sequences, int k, const InputArray<std::int32_t>& columns,
                    std::int64_t width, bool frequencies, int threads) {
    check_k(k);
    const auto column_of = view(columns);
    if (column_of.size() != std::size_t{1} << (2 * k)) throw py::value_error("columns must have 4^k entries");
    const auto in_range = [width](std::int32_t column) { return column >= 0 && column < width; };
    if (!std::ranges::all_of(column_of, in_range))
        throw py::value_error("a column lies outside of the width");
    return fill_rows<double>(sequences, width, threads, [&] {
        return [=, counts = std::vector<std::int64_t>(column_of.size())](Text text,
                                                                         std::span<double> out) mutable {
            std::ranges::fill(counts, 0);
            count_kmers(text, k, 1, counts);
            std::ranges::fill(out, 0.0);
            double total = 0.0;
            for (std::size_t code = 0; code < counts.size(); ++code) {
                out[static_cast<std::size_t>(column_of[code])] += static_cast<double>(counts[code]);
                total += static_cast<double>(counts[code]);
            }
            if (!frequencies || total == 0.0) return;
            for (double& value : out) value /= total;
        };
    });
}

py::tuple zcurve_parameters(const py::object& sequences, const std::vector<int>& orders, int phases,
                            int threads) {
    if (phases < 1) throw py::value_error("phases must be at least 1");
    std::int64_t width = 0;
    int highest = 1;
    for (const int order : orders) {
        check_k(order);
        width += z_parameter_count(order, phases);
        highest = std::max(highest, order);
    }
    const std::size_t most_counts = static_cast<std::size_t>(phases) << (2 * highest);
    return fill_rows<double>(sequences, width, threads, [&] {
        return [&, counts = std::vector<std::int64_t>(most_counts)](Text text,
                                                                    std::span<double> out) mutable {
            for (const int order : orders) {
                const auto used = std::span(counts).first(static_cast<std::size_t>(phases) << (2 * order));
                const auto parameters = static_cast<std::size_t>(z_parameter_count(order, phases));
                std::ranges::fill(used, 0);
                count_kmers(text, order, phases, used);
                z_parameters(used, order, phases, out.first(parameters));
                out = out.subspan(parameters);
            }
        };
    });
}

// The curves of all sequences, one behind the other, with the offsets of their first rows.
py::tuple zcurve_curves(const py::object& sequences, int threads) {
    const TextBatch batch(sequences);
    const std::span<const Text> texts = batch.texts();
    py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(batch.size()) + 1);
    const auto starts = mutable_view(offsets);
    std::int64_t first_invalid = -1;
    starts[0] = 0;
    {
        const py::gil_scoped_release released;
        // Cleaning may remove gaps, so lengths are known only after it.
        first_invalid = for_each_clean(texts, threads, [&] {
            return [&](Text text, std::int64_t i) noexcept {
                starts[static_cast<std::size_t>(i) + 1] = static_cast<std::int64_t>(text.size());
            };
        });
    }
    if (*std::ranges::max_element(starts) > std::numeric_limits<std::int32_t>::max()) {
        throw py::value_error("a sequence has 2^31 bases or more");
    }
    for (std::size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
    py::array_t<std::int32_t> values({static_cast<py::ssize_t>(starts.back()), py::ssize_t{3}});
    const auto rows = mutable_view(values);
    {
        const py::gil_scoped_release released;
        for_each_clean(texts, threads, [&] {
            return [&](Text text, std::int64_t i) noexcept {
                z_curve(text,
                        rows.subspan(3 * static_cast<std::size_t>(starts[static_cast<std::size_t>(i)])));
            };
        });
    }
    return py::make_tuple(std::move(values), std::move(offsets), first_invalid);
}

}  // namespace

void register_features(py::module_& module) {
    module.def("base_counts", &base_counts, "sequences"_a, "Counts of A, C, G, T: int64 (n, 4).");
    module.def("kmer_rows", &kmer_rows, "sequences"_a, py::kw_only(), "k"_a, "columns"_a, "width"_a,
               "frequencies"_a, "threads"_a = 0,
               "k-mer counts or frequencies, added up by column: float64 (n, width).");
    module.def("zcurve_parameters", &zcurve_parameters, "sequences"_a, py::kw_only(), "orders"_a, "phases"_a,
               "threads"_a = 0,
               "z-curve parameters of the given orders, one behind the other: float64 (n, f).");
    module.def("zcurve_curves", &zcurve_curves, "sequences"_a, "threads"_a = 0,
               "z-curves: int32 (total, 3) and int64 offsets (n + 1,).");
}

}  // namespace fastgenome
