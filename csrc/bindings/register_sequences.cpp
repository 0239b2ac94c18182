// Binding of the FASTA and FASTQ parser with the cleaning of what it reads: `_core.SequenceParser`.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/alphabet.hpp"
#include "fastgenome/fasta.hpp"
#include "fastgenome/fasta_file.hpp"
#include "fastgenome/only_bases.hpp"
#include "fastgenome/positioned_file.hpp"
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

void read_file(sequence_parser& parser, const std::string& path) {
    py::gil_scoped_release unlocked;
    read_all(PositionedFile(path), parser);
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

}  // namespace

void register_sequences(py::module_& module) {
    py::class_<sequence_parser>(module, "SequenceParser", "Push parser for 'fasta' and four-line 'fastq'.")
        .def(py::init(&make_parser), py::arg("format"))
        .def("feed", &feed, py::arg("data"), "Read a piece.")
        .def("read_file", &read_file, py::arg("path"), "Read a whole file, given by the bytes of its path.")
        .def("finish", &sequence_parser::finish, "Declare the end of the input.")
        .def(
            "take", &take, py::arg("bases"), py::arg("records"), py::arg("rest") = false,
            "Take the records that fill a batch, cleaned, or None while they are too few; with `rest`, what "
            "there is: ids, sequences, counts (n, 7) int64 of lower case, RNA, IUPAC, gaps, invalid, cleaned "
            "bases and 1 for no known base; and by index (raw letters, defect) of those to look at.");
}

}  // namespace fastgenome
