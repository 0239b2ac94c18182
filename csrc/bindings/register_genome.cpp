// Binding of genomes: `_core.Genome`, and the scan of a FASTA file for its index.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "fastgenome/fasta.hpp"
#include "fastgenome/genome.hpp"
#include "fastgenome/indexed_fasta.hpp"
#include "fastgenome/positioned_file.hpp"
#include "fastgenome/two_bit.hpp"
#include "register.hpp"
#include "text_objects.hpp"

namespace py = pybind11;

namespace fastgenome {
namespace {

// A genome and the way from a name of Python to a contig.
class NamedGenome {
  public:
    explicit NamedGenome(std::unique_ptr<Genome> genome) : genome_(std::move(genome)) {
        const std::vector<Contig>& contigs = genome_->contigs();
        const std::int64_t repeated = find_repeated_name(contigs);
        if (repeated < 0) return;
        throw malformed_input("two contigs are named " + contigs[repeated].name + "; names must be unique");
    }

    const Genome& genome() const noexcept { return *genome_; }

    py::tuple names() const {
        const std::vector<Contig>& contigs = genome_->contigs();
        py::tuple names(contigs.size());
        for (std::size_t i = 0; i < contigs.size(); ++i) {
            PyTuple_SET_ITEM(names.ptr(), static_cast<Py_ssize_t>(i),
                             name_text(contigs[i].name).release().ptr());
        }
        return names;
    }

    py::array_t<std::int64_t> lengths() const {
        const std::vector<Contig>& contigs = genome_->contigs();
        py::array_t<std::int64_t> lengths(static_cast<py::ssize_t>(contigs.size()));
        for (std::size_t i = 0; i < contigs.size(); ++i) lengths.mutable_at(i) = contigs[i].length;
        return lengths;
    }

    std::int64_t index(PyObject* name) const {
        if (indexes_.size() < genome_->contigs().size()) fill_indexes();
        PyObject* index = PyDict_GetItemWithError(indexes_.ptr(), name);
        if (index != nullptr) return PyLong_AsLongLong(index);
        if (PyErr_Occurred() != nullptr) throw py::error_already_set();
        throw bad_region("there is no contig " + std::string(py::repr(name)) + " (" + examples() + ")");
    }

    // An `end` of None is that of the contig.
    Region region(PyObject* name, PyObject* start, PyObject* end) const {
        const std::int64_t contig = index(name);
        const std::int64_t length = genome_->contigs()[contig].length;
        const Region region{contig, coordinate(start), end == Py_None ? length : coordinate(end)};
        genome_->check(region);
        return region;
    }

  private:
    static std::int64_t coordinate(PyObject* number) {
        const long long value = PyLong_AsLongLong(number);
        if (value != -1 || PyErr_Occurred() == nullptr) return value;
        if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
        PyErr_Clear();
        throw bad_region("coordinate " + std::string(py::repr(number)) + " lies outside of every contig");
    }

    std::string examples() const {
        const std::vector<Contig>& contigs = genome_->contigs();
        std::string names = "there are " + std::to_string(contigs.size());
        for (std::size_t i = 0; i < contigs.size() && i < 5; ++i) names += ", " + contigs[i].name;
        return names + (contigs.size() > 5 ? ", …" : "");
    }

    // Only when first needed: many contigs are read through without looking for a name.
    void fill_indexes() const {
        const py::tuple names = this->names();
        for (std::size_t i = 0; i < names.size(); ++i) indexes_[names[i]] = py::int_(i);
        if (indexes_.size() == names.size()) return;
        throw malformed_input("two names of contigs differ only in bytes that are not UTF-8");
    }

    std::unique_ptr<Genome> genome_;
    mutable py::dict indexes_;
};

// An object of Python with `size` and `read(offset, size) -> bytes`.
class PythonSource final : public ByteSource {
  public:
    explicit PythonSource(const py::object& object)
        : size_(object.attr("size").cast<std::int64_t>()), read_(object.attr("read")) {}
    ~PythonSource() override {
        py::gil_scoped_acquire locked;
        read_ = py::object();
    }

    std::int64_t size() const override { return size_; }

    void read(std::int64_t offset, std::span<std::uint8_t> out) const override {
        py::gil_scoped_acquire locked;
        const py::bytes bytes = read_(offset, out.size());
        const std::string_view view = bytes;
        if (view.size() != out.size()) throw truncated_input("the file ends where more was to come");
        std::copy(view.begin(), view.end(), out.begin());
    }

  private:
    std::int64_t size_;
    py::object read_;
};

std::unique_ptr<ByteSource> open_source(const py::object& source) {
    if (!py::isinstance<py::bytes>(source)) return std::make_unique<PythonSource>(source);
    return std::make_unique<PositionedFile>(source.cast<std::string>());
}

NamedGenome open_fasta(const py::object& source, const py::list& names,
                       const InputArray<std::int64_t>& numbers, bool keep_case) {
    const auto rows = numbers.unchecked<2>();
    if (rows.shape(0) != static_cast<py::ssize_t>(names.size()) || rows.shape(1) != 4)
        throw py::value_error("numbers must be (n, 4)");
    std::vector<FastaEntry> entries;
    for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
        entries.push_back({names[i].cast<std::string>(), rows(i, 0), rows(i, 1), rows(i, 2), rows(i, 3)});
    }
    return NamedGenome(std::make_unique<IndexedFasta>(open_source(source), std::move(entries), keep_case));
}

NamedGenome open_two_bit(const std::string& path, bool keep_case) {
    return NamedGenome(std::make_unique<TwoBitGenome>(std::make_unique<PositionedFile>(path), keep_case));
}

// All that a parser has read. Afterwards it is empty.
std::unique_ptr<Genome> genome_of(sequence_parser& parser, bool keep_case) {
    std::vector<Contig> contigs;
    contigs.reserve(static_cast<std::size_t>(parser.size()));
    for (std::int64_t i = 0; i < parser.size(); ++i) {
        contigs.push_back({std::string(parser.id(i)), static_cast<std::int64_t>(parser.letters(i).size())});
        if (contigs.back().name.empty()) {
            throw malformed_input("record " + std::to_string(i + 1) + " has no name behind its '>'");
        }
    }
    const bool is_clean = parser.only_upper();
    return std::make_unique<GenomeInMemory>(std::move(contigs), parser.take_letters(), keep_case, is_clean);
}

NamedGenome from_parser(sequence_parser& parser, bool keep_case) {
    std::unique_ptr<Genome> genome;
    {
        py::gil_scoped_release unlocked;
        genome = genome_of(parser, keep_case);
    }
    return NamedGenome(std::move(genome));
}

NamedGenome load_fasta(const std::string& path, bool keep_case) {
    std::unique_ptr<Genome> genome;
    {
        py::gil_scoped_release unlocked;
        sequence_parser parser(sequence_format::fasta);
        parser.read_fasta(PositionedFile(path));
        genome = genome_of(parser, keep_case);
    }
    return NamedGenome(std::move(genome));
}

NamedGenome loaded(const NamedGenome& source) {
    std::unique_ptr<Genome> genome;
    {
        py::gil_scoped_release unlocked;
        const std::vector<Contig>& contigs = source.genome().contigs();
        std::int64_t total = 0;
        for (const Contig& contig : contigs) total += contig.length;
        ByteBuffer letters;
        letters.reserve(total);
        for (std::size_t i = 0; i < contigs.size(); ++i) {
            source.genome().read({static_cast<std::int64_t>(i), 0, contigs[i].length},
                                 letters.room(contigs[i].length));
            letters.grow(contigs[i].length);
        }
        constexpr bool is_clean = true;  // by the source
        genome = std::make_unique<GenomeInMemory>(contigs, std::move(letters), false, is_clean);
    }
    return NamedGenome(std::move(genome));
}

py::str fetch(const NamedGenome& genome, const py::str& name, const py::object& start,
              const py::object& end) {
    const Region region = genome.region(name.ptr(), start.ptr(), end.ptr());
    py::str text = unwritten_ascii(region.length());
    std::uint8_t* out = PyUnicode_1BYTE_DATA(text.ptr());
    py::gil_scoped_release unlocked;
    genome.genome().check_unchanged();
    if (region.length() > 0) genome.genome().read(region, out);
    return text;
}

// The first three items of something like a tuple.
Region region_of(const NamedGenome& genome, const py::handle& item) {
    const py::object fields = py::reinterpret_steal<py::object>(
        PySequence_Fast(item.ptr(), "a region is a tuple: (contig, start, end)"));
    if (!fields) throw py::error_already_set();
    if (PySequence_Fast_GET_SIZE(fields.ptr()) < 3) {
        throw py::type_error("a region is a tuple: (contig, start, end)");
    }
    PyObject** items = PySequence_Fast_ITEMS(fields.ptr());
    return genome.region(items[0], items[1], items[2]);
}

py::list fetch_many(const NamedGenome& genome, const py::iterable& regions, int threads) {
    std::vector<Region> parsed;
    for (const py::handle item : regions) parsed.push_back(region_of(genome, item));
    py::list texts(parsed.size());
    std::vector<std::uint8_t*> outs;
    outs.reserve(parsed.size());
    for (std::size_t i = 0; i < parsed.size(); ++i) {
        py::str text = unwritten_ascii(parsed[i].length());
        outs.push_back(PyUnicode_1BYTE_DATA(text.ptr()));
        PyList_SET_ITEM(texts.ptr(), static_cast<Py_ssize_t>(i), text.release().ptr());
    }
    py::gil_scoped_release unlocked;
    read_regions(genome.genome(), parsed, outs, threads);
    return texts;
}

std::vector<Region> regions_of(const NamedGenome& genome, const InputArray<std::int64_t>& contigs,
                               const InputArray<std::int64_t>& starts, const InputArray<std::int64_t>& ends) {
    if (contigs.size() != starts.size() || starts.size() != ends.size()) {
        throw bad_region("contigs, starts and ends are of different lengths");
    }
    const auto known = std::ssize(genome.genome().contigs());
    std::vector<Region> regions;
    regions.reserve(static_cast<std::size_t>(starts.size()));
    for (py::ssize_t i = 0; i < starts.size(); ++i) {
        const Region region{contigs.data()[i], starts.data()[i], ends.data()[i]};
        if (region.contig < 0 || region.contig >= known) {
            throw bad_region("there is no contig with the index " + std::to_string(region.contig) +
                             " among " + std::to_string(known));
        }
        genome.genome().check(region);
        regions.push_back(region);
    }
    return regions;
}

// `out`, or new memory where it is None, for `size` letters.
py::array_t<std::uint8_t> letters_for(const py::object& out, std::int64_t size) {
    if (out.is_none()) return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(size));
    if (!py::isinstance<py::array>(out)) throw bad_region("out must be an array of uint8");
    try {
        return writable_array<std::uint8_t>(out, size);
    } catch (const py::value_error& error) {
        throw bad_region(error.what());
    }
}

py::tuple fetch_packed(const NamedGenome& genome, const InputArray<std::int64_t>& contigs,
                       const InputArray<std::int64_t>& starts, const InputArray<std::int64_t>& ends,
                       int threads, const py::object& out) {
    const std::vector<Region> regions = regions_of(genome, contigs, starts, ends);
    py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(regions.size()) + 1);
    std::int64_t total = 0;
    offsets.mutable_at(0) = 0;
    for (std::size_t i = 0; i < regions.size(); ++i) {
        if (__builtin_add_overflow(total, regions[i].length(), &total)) throw std::bad_alloc();
        offsets.mutable_at(i + 1) = total;
    }
    py::array_t<std::uint8_t> letters = letters_for(out, total);
    std::vector<std::uint8_t*> outs;
    outs.reserve(regions.size());
    for (std::size_t i = 0; i < regions.size(); ++i) outs.push_back(letters.mutable_data() + offsets.at(i));
    {
        py::gil_scoped_release unlocked;
        read_regions(genome.genome(), regions, outs, threads);
    }
    return py::make_tuple(letters, offsets);
}

void feed(FastaScanner& scanner, const py::bytes& data) {
    const std::string_view bytes = data;
    py::gil_scoped_release unlocked;
    scanner.feed(bytes);
}

py::tuple finish(FastaScanner& scanner) {
    const std::vector<FastaEntry> entries = scanner.finish();
    py::list names;
    py::array_t<std::int64_t> numbers({std::ssize(entries), py::ssize_t{4}});
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const FastaEntry& entry = entries[i];
        names.append(py::bytes(entry.name));
        std::int64_t* row = numbers.mutable_data(i, 0);
        row[0] = entry.length;
        row[1] = entry.offset;
        row[2] = entry.line_bases;
        row[3] = entry.line_bytes;
    }
    return py::make_tuple(names, numbers);
}

}  // namespace

void register_genome(py::module_& module) {
    using namespace py::literals;
    py::class_<FastaScanner>(module, "FastaScanner", "Push scanner for what an index of FASTA holds.")
        .def(py::init())
        .def("feed", &feed, "data"_a)
        .def("finish", &finish,
             "Names (bytes) of the contigs, and (n, 4) int64: length, offset, bases and bytes of a line.");
    py::class_<NamedGenome>(module, "Genome", "Contigs of which any stretch can be read.")
        .def_static("open_fasta", &open_fasta, "source"_a, "names"_a, "numbers"_a, "keep_case"_a)
        .def_static("open_two_bit", &open_two_bit, "path"_a, "keep_case"_a)
        .def_static("load_fasta", &load_fasta, "path"_a, "keep_case"_a, "All of a plain file in memory.")
        .def_static("from_parser", &from_parser, "parser"_a, "keep_case"_a)
        .def("loaded", &loaded, "The same genome, all of it in memory.")
        .def_property_readonly("names", &NamedGenome::names)
        .def_property_readonly("lengths", &NamedGenome::lengths)
        .def("index", [](const NamedGenome& genome, const py::str& name) { return genome.index(name.ptr()); })
        .def("fetch", &fetch, "name"_a, "start"_a, "end"_a)
        .def("fetch_many", &fetch_many, "regions"_a, "threads"_a = 0)
        .def("fetch_packed", &fetch_packed, "contigs"_a, "starts"_a, "ends"_a, "threads"_a = 0,
             "out"_a = py::none(), "Letters (total,) uint8 one behind the other, and offsets (n + 1,) int64.");
}

}  // namespace fastgenome
