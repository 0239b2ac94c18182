// How the core runs: the instruction set in use, which tests and measurements may lower.
#include <array>
#include <cstddef>
#include <string_view>

#include "fastgenome/instruction_sets.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace fastgenome {
namespace {

constexpr std::array<std::string_view, 3> names = {"baseline", "avx2", "avx512"};

std::string_view name_of(InstructionSet set) { return names[static_cast<std::size_t>(set)]; }

std::string_view limit(std::string_view name) {
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == name) return name_of(limit_instruction_set(static_cast<InstructionSet>(i)));
    }
    throw py::value_error("expected baseline, avx2 or avx512");
}

}  // namespace

void register_runtime(py::module_& module) {
    module.def(
        "instruction_set", [] { return name_of(instruction_set()); },
        "The instruction set in use: baseline, avx2 or avx512.");
    module.def("limit_instruction_set", &limit, py::arg("name"),
               "Uses no better set than `name` from now on, in the whole process; returns the one in use.");
}

}  // namespace fastgenome
