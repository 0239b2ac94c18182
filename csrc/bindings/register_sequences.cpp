// Binding of the FASTA and FASTQ parser with the cleaning of what it reads: `_core.SequenceParser`.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/alphabet.hpp"
#include "fastgenome/fasta.hpp"
#include "fastgenome/only_bases.hpp"
#include "register.hpp"
#include "text_objects.hpp"

namespace py = pybind11;

namespace fastgenome {
namespace {

// Columns of the counts: those of CleaningCounts, cleaned bases, and 1 where none of them is known.
constexpr py::ssize_t columns = 7;

sequence_parser make_parser(std::string_view format) {
    if (format == "fasta") return sequence_parser(sequence_format::fasta);
    if (format == "fastq") return sequence_parser(sequence_format::fastq);
    throw py::value_error("format must be 'fasta' or 'fastq'");
}

void feed(sequence_parser& parser, const py::bytes& data) {
    const std::string_view bytes = data;
    py::gil_scoped_release unlocked;
    parser.feed(bytes);
}

// The first records that together have `bases` letters, `most` at the most; 0 when there are too few of both.
std::int64_t full_batch(const sequence_parser& parser, std::int64_t bases, std::int64_t most) {
    std::int64_t letters = 0;
    for (std::int64_t i = 0; i < parser.size(); ++i) {
        letters += static_cast<std::int64_t>(parser.letters(i).size());
        if (letters >= bases || i + 1 == most) return i + 1;
    }
    return 0;
}

// Cleans one record; fills its row of counts.
py::str clean_record(Text raw, bool is_clean, std::vector<std::uint8_t>& buffer, std::int64_t* row) {
    Text cleaned = raw;
    std::fill_n(row, columns, 0);
    if (!is_clean && !only_upper_bases(raw)) {
        buffer.resize(std::max(buffer.size(), raw.size()));
        const Cleaned outcome = clean_into(raw, buffer);
        const CleaningCounts& counts = outcome.counts;
        const std::array values = {counts.lowercase, counts.rna, counts.iupac, counts.gaps, counts.invalid};
        std::ranges::copy(values, row);
        cleaned = Text(buffer).first(static_cast<std::size_t>(outcome.length));
    }
    row[5] = static_cast<std::int64_t>(cleaned.size());
    row[6] = std::ranges::all_of(cleaned, [](std::uint8_t letter) { return letter == 'N'; }) ? 1 : 0;
    return ascii_text(cleaned);
}

py::object take(sequence_parser& parser, std::int64_t bases, std::int64_t most, bool rest) {
    std::int64_t size = full_batch(parser, bases, most);
    if (size == 0 && rest) size = parser.size();
    if (size == 0) return py::none();
    py::list ids(size);
    py::list sequences(size);
    py::dict suspects;
    py::array_t<std::int64_t> counts({static_cast<py::ssize_t>(size), columns});
    std::vector<std::uint8_t> buffer;
    for (std::int64_t i = 0; i < size; ++i) {
        const Text raw = parser.letters(i);
        std::int64_t* row = counts.mutable_data(i, 0);
        PyList_SET_ITEM(ids.ptr(), i, name_text(parser.id(i)).release().ptr());
        PyList_SET_ITEM(sequences.ptr(), i,
                        clean_record(raw, parser.only_upper(), buffer, row).release().ptr());
        if (row[4] > 0 || row[5] == 0 || !parser.defect(i).empty()) {
            suspects[py::int_(i)] = py::make_tuple(latin1_text(raw), parser.defect(i));
        }
    }
    parser.drop(size);
    return py::make_tuple(ids, sequences, counts, suspects);
}

// Instances of `type`, a subclass of tuple without state of its own: (id, sequence, empty tuple) for each.
py::list make_records(const py::type& type, const py::list& ids, const py::list& sequences) {
    if (ids.size() != sequences.size()) throw py::value_error("ids and sequences differ in number");
    auto* const record_type = reinterpret_cast<PyTypeObject*>(type.ptr());
    if (PyType_IsSubtype(record_type, &PyTuple_Type) == 0) throw py::type_error("type must be a tuple");
    const py::tuple no_labels(0);
    py::list records(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const auto index = static_cast<Py_ssize_t>(i);
        PyObject* record = record_type->tp_alloc(record_type, 3);
        if (record == nullptr) throw py::error_already_set();
        PyTuple_SET_ITEM(record, 0, Py_NewRef(PyList_GET_ITEM(ids.ptr(), index)));
        PyTuple_SET_ITEM(record, 1, Py_NewRef(PyList_GET_ITEM(sequences.ptr(), index)));
        PyTuple_SET_ITEM(record, 2, Py_NewRef(no_labels.ptr()));
        // Texts and an empty tuple close no cycle, so the collector need not visit each record again and
        // again.
        PyObject_GC_UnTrack(record);
        PyList_SET_ITEM(records.ptr(), index, record);
    }
    return records;
}

}  // namespace

void register_sequences(py::module_& module) {
    py::class_<sequence_parser>(module, "SequenceParser", "Push parser for 'fasta' and four-line 'fastq'.")
        .def(py::init(&make_parser), py::arg("format"))
        .def("feed", &feed, py::arg("data"), "Read a piece.")
        .def("finish", &sequence_parser::finish, "Declare the end of the input.")
        .def(
            "take", &take, py::arg("bases"), py::arg("records"), py::arg("rest") = false,
            "Take the records that fill a batch, cleaned, or None while they are too few; with `rest`, what "
            "there is: ids, sequences, counts (n, 7) int64 of lower case, RNA, IUPAC, gaps, invalid, cleaned "
            "bases and 1 for no known base; and by index (raw letters, defect) of those to look at.");
    module.def("make_records", &make_records, py::arg("type"), py::arg("ids"), py::arg("sequences"),
               "Records of a subclass of tuple: (id, sequence, ()) for each.");
}

}  // namespace fastgenome
