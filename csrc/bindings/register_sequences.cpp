// Binding of the FASTA and FASTQ parser: `_core.SequenceParser`.
#include <string_view>
#include <vector>

#include "fastgenome/fasta.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace fastgenome {
namespace {

sequence_parser make_parser(std::string_view format) {
    if (format == "fasta") return sequence_parser(sequence_format::fasta);
    if (format == "fastq") return sequence_parser(sequence_format::fastq);
    throw py::value_error("format must be 'fasta' or 'fastq'");
}

// Names may hold any bytes: those that are not UTF-8 are shown as \xNN, so that no record is lost over its
// name.
py::str decode_name(const std::string& name) {
    PyObject* text =
        PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), "backslashreplace");
    if (text == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(text);
}

// One character per byte; cleaning judges the letters.
py::str decode_letters(const std::string& letters) {
    PyObject* text = PyUnicode_DecodeLatin1(letters.data(), static_cast<Py_ssize_t>(letters.size()), nullptr);
    if (text == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(text);
}

py::list to_python(const std::vector<sequence_record>& records) {
    py::list result(records.size());
    for (std::size_t index = 0; index < records.size(); ++index) {
        const sequence_record& record = records[index];
        result[index] =
            py::make_tuple(decode_name(record.id), decode_letters(record.sequence), py::str(record.defect));
    }
    return result;
}

py::list feed(sequence_parser& parser, const py::bytes& data) {
    const std::string_view bytes = data;
    std::vector<sequence_record> records;
    {
        py::gil_scoped_release unlocked;
        parser.feed(bytes);
        records = parser.take();
    }
    return to_python(records);
}

py::list finish(sequence_parser& parser) {
    parser.finish();
    return to_python(parser.take());
}

}  // namespace

void register_sequences(py::module_& module) {
    auto malformed = py::register_exception<malformed_input>(module, "MalformedInput", PyExc_ValueError);
    py::register_exception<truncated_input>(module, "TruncatedInput", malformed);

    py::class_<sequence_parser>(module, "SequenceParser", "Push parser for 'fasta' and four-line 'fastq'.")
        .def(py::init(&make_parser), py::arg("format"))
        .def("feed", &feed, py::arg("data"),
             "Read a piece; return the (id, sequence, defect) completed by it.")
        .def("finish", &finish, "Declare the end; return the last (id, sequence, defect).");
}

}  // namespace fastgenome
