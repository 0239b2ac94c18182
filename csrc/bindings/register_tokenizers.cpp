// Cleaning and tokenizers for Python: check, release the GIL, encode, return.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/alphabet.hpp"
#include "fastgenome/batch.hpp"
#include "fastgenome/block_kmers.hpp"
#include "fastgenome/bpe.hpp"
#include "fastgenome/character.hpp"
#include "fastgenome/only_bases.hpp"
#include "fastgenome/sliding_kmers.hpp"
#include "register.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace fastgenome {
namespace {

using Spellings = std::map<std::string, std::int32_t>;

// An encoder with the spellings of special tokens that it recognises in raw text.
template <typename Encoder>
struct BoundEncoder {
    Encoder encoder;
    Literals literals;
    bool has_literals;

    BoundEncoder(Encoder made, const Spellings& spellings)
        : encoder(std::move(made)),
          literals(std::vector<std::pair<std::string, std::int32_t>>(spellings.begin(), spellings.end())),
          has_literals(!spellings.empty()) {}

    std::int64_t capacity(const TextBatch& batch, const BatchLayout& layout) const {
        std::int64_t ids = 0;
        for (const Text text : batch.texts()) {
            ids += sequence_bound(encoder, static_cast<std::int64_t>(text.size()), layout);
        }
        return ids;
    }

    py::tuple encode(const py::object& sequences, const std::vector<std::int32_t>& prefix,
                     const std::vector<std::int32_t>& suffix, bool clean, const py::dtype& dtype,
                     const std::optional<py::array>& out, int threads) const {
        const TextBatch batch(sequences);
        const BatchLayout layout{prefix, suffix, has_literals ? &literals : nullptr, clean, threads};
        if (dtype.equal(py::dtype::of<std::uint8_t>())) return encode_as<std::uint8_t>(batch, layout, out);
        if (dtype.equal(py::dtype::of<std::uint16_t>())) return encode_as<std::uint16_t>(batch, layout, out);
        if (dtype.equal(py::dtype::of<std::int32_t>())) return encode_as<std::int32_t>(batch, layout, out);
        if (dtype.equal(py::dtype::of<std::int64_t>())) return encode_as<std::int64_t>(batch, layout, out);
        throw py::value_error("dtype must be uint8, uint16, int32 or int64");
    }

    std::int64_t capacity_of(const py::object& sequences, const std::vector<std::int32_t>& prefix,
                             const std::vector<std::int32_t>& suffix) const {
        // Without cleaning a text may hold literals, so that this is the larger bound.
        return capacity(TextBatch(sequences), {prefix, suffix, has_literals ? &literals : nullptr, false, 1});
    }

  private:
    template <typename Id>
    py::tuple encode_as(const TextBatch& batch, const BatchLayout& layout,
                        const std::optional<py::array>& out) const {
        const std::int64_t most = capacity(batch, layout);
        py::array_t<Id> ids = out ? writable_array<Id>(*out, most) : py::array_t<Id>(most);
        py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(batch.size()) + 1);
        const auto id_span = mutable_view(ids);
        const auto offset_span = mutable_view(offsets);
        BatchResult result;
        {
            const py::gil_scoped_release released;
            result = encode_batch(encoder, batch.texts(), layout, id_span, offset_span);
        }
        if (!out && result.total < most) ids.resize({result.total}, false);
        py::object used = std::move(ids);
        if (out) used = used[py::slice(0, result.total, 1)];
        return py::make_tuple(std::move(used), std::move(offsets), result.first_invalid);
    }
};

template <typename Encoder>
py::class_<BoundEncoder<Encoder>> declare_encoder(py::module_& module, const char* name, const char* doc) {
    return py::class_<BoundEncoder<Encoder>>(module, name, doc)
        .def("encode", &BoundEncoder<Encoder>::encode, "sequences"_a, py::kw_only(), "prefix"_a, "suffix"_a,
             "clean"_a, "dtype"_a = py::dtype::of<std::int32_t>(), "out"_a = py::none(), "threads"_a = 0,
             "Returns ids (total,), offsets (n + 1,) int64, and the first sequence that is not DNA or -1.")
        .def("capacity", &BoundEncoder<Encoder>::capacity_of, "sequences"_a, py::kw_only(), "prefix"_a,
             "suffix"_a, "The most ids that encode can give for these sequences.");
}

py::tuple clean(const py::object& sequences) {
    const TextBatch batch(sequences);
    const std::size_t size = batch.size();
    py::array_t<std::int64_t> counts({static_cast<py::ssize_t>(size), py::ssize_t{5}});
    std::vector<std::vector<std::uint8_t>> changed(size);
    std::vector<bool> is_changed(size);
    std::int64_t* row = counts.mutable_data();
    {
        const py::gil_scoped_release released;
        for (std::size_t i = 0; i < size; ++i, row += 5) {
            const Text text = batch.texts()[i];
            CleaningCounts found;
            if (!only_upper_bases(text)) {
                is_changed[i] = true;
                changed[i].resize(text.size());
                const Cleaned outcome = clean_into(text, changed[i]);
                changed[i].resize(static_cast<std::size_t>(outcome.length));
                found = outcome.counts;
            }
            row[0] = found.lowercase;
            row[1] = found.rna;
            row[2] = found.iupac;
            row[3] = found.gaps;
            row[4] = found.invalid;
        }
    }
    py::list cleaned(size);
    for (std::size_t i = 0; i < size; ++i) {
        // A clean str is handed back as it is.
        if (!is_changed[i] && PyUnicode_Check(batch.object(i).ptr())) {
            cleaned[i] = batch.object(i);
            continue;
        }
        const Text text = is_changed[i] ? Text(changed[i]) : batch.texts()[i];
        cleaned[i] = py::str(reinterpret_cast<const char*>(text.data()), text.size());
    }
    return py::make_tuple(std::move(cleaned), std::move(counts));
}

Bpe make_bpe(const InputArray<std::int32_t>& bytes, const InputArray<std::int32_t>& merges,
             std::int32_t unknown) {
    if (merges.ndim() != 2 || merges.shape(1) != 3)
        throw py::value_error("merges must have the shape (n, 3)");
    std::vector<Merge> list;
    list.reserve(static_cast<std::size_t>(merges.shape(0)));
    const auto flat = view(merges);
    for (std::size_t i = 0; i < flat.size(); i += 3) list.push_back({flat[i], flat[i + 1], flat[i + 2]});
    return Bpe(MergeList(view(bytes), std::move(list)), unknown);
}

py::tuple encode_split(const BoundEncoder<Bpe>& bound, const py::object& sequence, std::int64_t parts) {
    const TextBatch batch(py::make_tuple(sequence));
    const Text text = batch.texts()[0];
    py::array_t<std::int32_t> ids(static_cast<py::ssize_t>(text.size()));
    const auto id_span = mutable_view(ids);
    std::int64_t total = 0;
    std::size_t pieces = 0;
    {
        const py::gil_scoped_release released;
        pieces = bound.encoder.split(text, parts).size();
        total = bound.encoder.encode_parallel(text, id_span.data(), parts);
    }
    ids.resize({total}, false);
    return py::make_tuple(std::move(ids), pieces);
}

}  // namespace

void register_tokenizers(py::module_& module) {
    module.def("clean", &clean, "sequences"_a,
               "Cleans sequences: (list of str, int64 (n, 5) of lowercase, rna, iupac, gaps, invalid).");

    declare_encoder<SlidingKmers>(module, "SlidingKmers",
                                  "k-mers at any stride; ids in the order of the codes.")
        .def(py::init([](int k, std::int64_t stride, const std::string& letters,
                         const InputArray<std::int32_t>& ids, std::int32_t unknown) {
                 const auto table = view(ids);
                 return BoundEncoder<SlidingKmers>(
                     SlidingKmers(k, stride, letters, {table.begin(), table.end()}, unknown), {});
             }),
             "k"_a, "stride"_a, "letters"_a, "ids"_a, "unknown"_a);

    declare_encoder<BlockKmers>(module, "BlockKmers",
                                "Non-overlapping k-mers with single characters between.")
        .def(py::init([](int k, const std::string& letters, const InputArray<std::int32_t>& ids,
                         std::int32_t unknown, const InputArray<std::int32_t>& characters,
                         const Spellings& literals) {
                 const auto table = view(ids);
                 return BoundEncoder<BlockKmers>(
                     BlockKmers(k, letters, {table.begin(), table.end()}, unknown, view(characters)),
                     literals);
             }),
             "k"_a, "letters"_a, "ids"_a, "unknown"_a, "characters"_a, "literals"_a);

    declare_encoder<Characters>(module, "Characters", "One token per character.")
        .def(py::init([](const InputArray<std::int32_t>& ids, const Spellings& literals) {
                 return BoundEncoder<Characters>(Characters(view(ids)), literals);
             }),
             "ids"_a, "literals"_a);

    declare_encoder<Bpe>(module, "Bpe",
                         "Byte-pair encoding; merges (n, 3) of left, right and result in rank order.")
        .def(py::init([](const InputArray<std::int32_t>& bytes, const InputArray<std::int32_t>& merges,
                         std::int32_t unknown, const Spellings& literals) {
                 return BoundEncoder<Bpe>(make_bpe(bytes, merges, unknown), literals);
             }),
             "bytes"_a, "merges"_a, "unknown"_a, "literals"_a)
        .def_property_readonly("uses_table",
                               [](const BoundEncoder<Bpe>& bound) { return bound.encoder.uses_table(); })
        .def_property_readonly("is_made",
                               [](const BoundEncoder<Bpe>& bound) { return bound.encoder.is_made(); })
        .def("encode_split", &encode_split, "sequence"_a, "parts"_a,
             "Ids of one text that is cut into parts first, and the number of parts: for tests.");
}

}  // namespace fastgenome
