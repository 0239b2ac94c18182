// Strings of Python made from bytes of the core.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "fastgenome/alphabet.hpp"

namespace fastgenome {

inline pybind11::str owned_text(PyObject* text) {
    if (text == nullptr) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::str>(text);
}

// An ASCII string whose characters are to be written to PyUnicode_1BYTE_DATA before anybody else sees it.
inline pybind11::str unwritten_ascii(std::int64_t length) {
    return owned_text(PyUnicode_New(static_cast<Py_ssize_t>(length), 127));
}

inline pybind11::str ascii_text(Text letters) {
    pybind11::str text = unwritten_ascii(static_cast<std::int64_t>(letters.size()));
    if (!letters.empty()) std::memcpy(PyUnicode_1BYTE_DATA(text.ptr()), letters.data(), letters.size());
    return text;
}

// Names may hold any bytes: those that are not UTF-8 are shown as \xNN, so that no record is lost over its
// name.
inline pybind11::str name_text(std::string_view name) {
    return owned_text(
        PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), "backslashreplace"));
}

// One character per byte.
inline pybind11::str latin1_text(Text letters) {
    return owned_text(PyUnicode_DecodeLatin1(reinterpret_cast<const char*>(letters.data()),
                                             static_cast<Py_ssize_t>(letters.size()), nullptr));
}

}  // namespace fastgenome
