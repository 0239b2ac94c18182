// What the core throws, as exceptions of Python: `_core.MalformedInput`, `TruncatedInput`, `BadRegion`,
// OSError.
#include <exception>
#include <system_error>

#include "fastgenome/input_errors.hpp"
#include "register.hpp"
#include "text_objects.hpp"

namespace py = pybind11;

namespace fastgenome {
namespace {

// They live as long as the process, for an exception may be raised at any time.
struct ErrorTypes {
    py::handle malformed;
    py::handle truncated;
    py::handle bad_region;
};

ErrorTypes& types() {
    static ErrorTypes types;
    return types;
}

// A message may name a contig or a file by any bytes, which PyErr_SetString would refuse.
void raise(py::handle type, const std::exception& error) {
    PyErr_SetObject(type.ptr(), name_text(error.what()).ptr());
}

void translate(std::exception_ptr raised) {
    try {
        if (raised) std::rethrow_exception(raised);
    } catch (const truncated_input& error) {
        raise(types().truncated, error);
    } catch (const malformed_input& error) {
        raise(types().malformed, error);
    } catch (const bad_region& error) {
        raise(types().bad_region, error);
    } catch (const std::system_error& error) {
        PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code().value(), name_text(error.what())).ptr());
    }
}

}  // namespace

void register_errors(py::module_& module) {
    const py::exception<malformed_input> malformed(module, "MalformedInput", PyExc_ValueError);
    const py::exception<truncated_input> truncated(module, "TruncatedInput", malformed);
    const py::exception<bad_region> region(module, "BadRegion", PyExc_ValueError);
    types() = {malformed.inc_ref(), truncated.inc_ref(), region.inc_ref()};
    py::register_exception_translator(&translate);
}

}  // namespace fastgenome
