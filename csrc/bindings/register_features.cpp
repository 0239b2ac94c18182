// Rows of features for Python: base counts, k-mer counts and frequencies, z-curve parameters.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/base_counts.hpp"
#include "fastgenome/cleaner.hpp"
#include "fastgenome/kmer_frequencies.hpp"
#include "fastgenome/zcurve.hpp"
#include "feature_rows.hpp"
#include "register.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace fastgenome {
namespace {

// Also the lengths: a sequence holds an N where its counts add up to less.
py::tuple base_counts(const py::object& sequences, const py::array& out, int threads) {
    const TextBatch batch(sequences);
    const auto n = static_cast<py::ssize_t>(batch.size());
    std::int64_t* const rows = checked_rows<std::int64_t>(out, n, 4);
    py::array_t<std::int64_t> lengths(n);
    const auto sizes = mutable_view(lengths);
    std::int64_t first_invalid = -1;
    {
        const py::gil_scoped_release released;
        first_invalid = for_each_clean(batch.texts(), threads, [&] {
            return [&](Text text, std::int64_t i) noexcept {
                sizes[static_cast<std::size_t>(i)] = static_cast<std::int64_t>(text.size());
                std::ranges::copy(count_bases(text), rows + 4 * i);
            };
        });
    }
    return py::make_tuple(std::move(lengths), first_invalid);
}

ZNorm norm_of(std::string_view name) {
    if (name == "count") return ZNorm::count;
    if (name == "length") return ZNorm::length;
    if (name == "phase") return ZNorm::phase;
    if (name == "conditional") return ZNorm::conditional;
    throw py::value_error("norm must be 'count', 'length', 'phase' or 'conditional'");
}

}  // namespace

void register_features(py::module_& module) {
    module.def("base_counts", &base_counts, "sequences"_a, "out"_a, "threads"_a = 0,
               "Counts of A, C, G, T into int64 (n, 4). Returns the cleaned lengths int64 (n,) and the first "
               "sequence that is not DNA, or -1.");

    py::class_<KmerRows> kmers(module, "KmerRows", "k-mer counts or frequencies, added up by column.");
    kmers.def(py::init([](int k, const InputArray<std::uint16_t>& columns, std::size_t width, bool freq) {
                  const auto entries = view(columns);
                  return KmerRows(k, {entries.begin(), entries.end()}, width, freq);
              }),
              "k"_a, "columns"_a, "width"_a, "frequencies"_a);
    define_rows(kmers);

    py::class_<ZCurveParameters> zcurve(module, "ZCurveRows", "z-curve parameters, block after block.");
    zcurve.def(py::init([](const std::vector<std::pair<int, int>>& blocks, std::string_view norm) {
                   return ZCurveParameters(blocks, norm_of(norm));
               }),
               "blocks"_a, "norm"_a);
    define_rows(zcurve);
}

}  // namespace fastgenome
