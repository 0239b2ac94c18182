// What the bindings of features share: rows of numbers, written into an array that Python made.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/cleaner.hpp"
#include "fastgenome/only_bases.hpp"
#include "fastgenome/window_rows.hpp"

namespace fastgenome {

inline UnknownPolicy unknown_policy(std::string_view name) {
    if (name == "skip") return UnknownPolicy::skip;
    if (name == "nan") return UnknownPolicy::nan;
    if (name == "error") return UnknownPolicy::refuse;
    throw pybind11::value_error("unknown must be 'skip', 'nan' or 'error'");
}

// The numbers of `array`, which must be a writable block of rows * columns of T.
template <typename T>
T* checked_rows(const pybind11::array& array, std::int64_t rows, std::int64_t columns) {
    const bool fits = array.ndim() == 2 && array.shape(0) == rows && array.shape(1) == columns;
    if (!fits || !pybind11::isinstance<pybind11::array_t<T, pybind11::array::c_style>>(array))
        throw pybind11::value_error("out must be C-contiguous, of " + std::to_string(rows) + " x " +
                                    std::to_string(columns) + " numbers");
    if (!is_aligned<T>(array)) throw pybind11::value_error("out is not aligned");
    if (!array.writeable()) throw pybind11::value_error("out is read-only");
    // The check holds for any array; mutable_data() alone would accept another type.
    return static_cast<T*>(const_cast<void*>(array.data()));
}

// The first sequence, or window, that is not DNA and the first that holds an N where that is refused.
struct Refused {
    std::int64_t not_dna = -1;
    std::int64_t unknown = -1;
};

// Rows of a batch, one for each cleaned sequence.
template <typename Counter, typename Rows, typename Value>
Refused write_rows(std::span<const Text> texts, const Rows& rows, UnknownPolicy unknown, int threads,
                   Value* out) {
    std::vector<std::uint8_t> refused(unknown == UnknownPolicy::refuse ? texts.size() : 0);
    Refused result;
    result.not_dna = for_each_clean(texts, threads, [&] {
        return [&, counts = std::vector<Counter>(rows.tables().size())](Text text, std::int64_t i) mutable {
            Value* const row = out + i * static_cast<std::int64_t>(rows.width());
            const auto is_unknown = [text] {
                return !text.empty() && std::memchr(text.data(), 'N', text.size()) != nullptr;
            };
            if (unknown != UnknownPolicy::skip && is_unknown()) {
                if (!refused.empty()) refused[static_cast<std::size_t>(i)] = 1;
                std::fill_n(row, rows.width(), std::numeric_limits<Value>::quiet_NaN());
                return;
            }
            count_kmers(text, rows.tables(), counts.data());
            const std::int64_t bases =
                rows.needs_bases() ? static_cast<std::int64_t>(text.size()) - std::ranges::count(text, 'N')
                                   : 0;
            rows.write(counts.data(), 0, bases, row);
        };
    });
    const auto found = std::ranges::find(refused, std::uint8_t{1});
    if (found != refused.end()) result.unknown = found - refused.begin();
    return result;
}

template <typename Rows, typename Value>
pybind11::tuple fill_as(const Rows& rows, const TextBatch& batch, Value* out, UnknownPolicy unknown,
                        int threads, bool wide) {
    Refused refused;
    {
        const pybind11::gil_scoped_release released;
        const bool needs_wide = std::ranges::any_of(
            batch.texts(), [](Text text) { return text.size() > std::numeric_limits<std::int32_t>::max(); });
        refused = wide || needs_wide ? write_rows<std::uint64_t>(batch.texts(), rows, unknown, threads, out)
                                     : write_rows<std::uint32_t>(batch.texts(), rows, unknown, threads, out);
    }
    return pybind11::make_tuple(refused.not_dna, refused.unknown);
}

// `rows.fill(sequences, out, ...)` for Python; `out` is float64 or float32 (n, width).
template <typename Rows>
pybind11::tuple fill(const Rows& rows, const pybind11::object& sequences, const pybind11::array& out,
                     std::string_view unknown, int threads, bool wide) {
    const TextBatch batch(sequences);
    const auto n = static_cast<std::int64_t>(batch.size());
    const auto width = static_cast<std::int64_t>(rows.width());
    const UnknownPolicy policy = unknown_policy(unknown);
    if (out.dtype().is(pybind11::dtype::of<float>()))
        return fill_as(rows, batch, checked_rows<float>(out, n, width), policy, threads, wide);
    return fill_as(rows, batch, checked_rows<double>(out, n, width), policy, threads, wide);
}

inline Windows checked_windows(Text text, std::int64_t window, std::int64_t stride) {
    if (window < 1 || window > std::numeric_limits<std::int32_t>::max() || stride < 1)
        throw pybind11::value_error("window must lie between 1 and 2^31 - 1, stride be at least 1");
    if (!only_upper_bases(text)) throw pybind11::value_error("the sequence must be clean");
    return {window, stride};
}

// `rows.fill_windows(sequence, out, ...)`: the sequence must be clean. Returns the first refused window or
// -1.
template <typename Rows>
std::int64_t fill_windows(const Rows& rows, const pybind11::object& sequence, const pybind11::array& out,
                          std::int64_t window, std::int64_t stride, std::string_view unknown, int threads) {
    const TextBatch batch(pybind11::make_tuple(sequence));
    const Text text = batch.texts()[0];
    const Windows windows = checked_windows(text, window, stride);
    const std::int64_t n = windows.count(static_cast<std::int64_t>(text.size()));
    const auto width = static_cast<std::int64_t>(rows.width());
    const UnknownPolicy policy = unknown_policy(unknown);
    const auto write = [&](auto* numbers) {
        const pybind11::gil_scoped_release released;
        return write_window_rows(text, rows, windows, policy, threads, numbers);
    };
    if (out.dtype().is(pybind11::dtype::of<float>())) return write(checked_rows<float>(out, n, width));
    return write(checked_rows<double>(out, n, width));
}

// `rows.sum_windows(sequence, ...)`: for measurements and tests of the sliding alone.
template <typename Rows>
std::int64_t sum_of_windows(const Rows& rows, const pybind11::object& sequence, std::size_t counter,
                            std::int64_t window, std::int64_t stride) {
    const TextBatch batch(pybind11::make_tuple(sequence));
    const Text text = batch.texts()[0];
    const Windows windows = checked_windows(text, window, stride);
    if (counter >= rows.tables().size()) throw pybind11::value_error("there is no such counter");
    const pybind11::gil_scoped_release released;
    return sum_windows(text, rows, windows, counter);
}

// The methods that all kinds of rows have.
template <typename Class>
void define_rows(Class& bound) {
    using namespace pybind11::literals;
    using Rows = typename Class::type;
    bound.def_property_readonly("width", &Rows::width, "Numbers of a row.");
    bound.def("fill", &fill<Rows>, "sequences"_a, "out"_a, pybind11::kw_only(), "unknown"_a, "threads"_a = 0,
              "wide"_a = false,
              "Rows of sequences, into float64 or float32 (n, width). Returns the first sequence that is not "
              "DNA and the first that is refused for an N, or -1. `wide` takes counters of 64 bits.");
    bound.def("fill_windows", &fill_windows<Rows>, "sequence"_a, "out"_a, pybind11::kw_only(), "window"_a,
              "stride"_a, "unknown"_a, "threads"_a = 0,
              "Rows of the windows of a clean sequence. Returns the first that is refused for an N, or -1.");
    bound.def("sum_windows", &sum_of_windows<Rows>, "sequence"_a, "counter"_a, pybind11::kw_only(),
              "window"_a, "stride"_a,
              "The sum of one counter over the windows of a clean sequence: what sliding costs without "
              "writing rows.");
}

}  // namespace fastgenome
