// What the bindings need between Python and the core: texts without copies, and views of NumPy's arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "fastgenome/alphabet.hpp"

namespace fastgenome {

template <typename T>
using InputArray = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

template <typename T>
std::span<const T> view(const InputArray<T>& array) {
    return {array.data(), static_cast<std::size_t>(array.size())};
}

template <typename T>
std::span<T> mutable_view(pybind11::array_t<T>& array) {
    return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

template <typename T>
bool is_aligned(const pybind11::array& array) {
    return reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0;
}

// `out` as an array to write to, without copying. Throws ValueError where it cannot take `size` values.
template <typename T>
pybind11::array_t<T> writable_array(const pybind11::array& out, std::int64_t size) {
    if (!pybind11::array_t<T, pybind11::array::c_style>::check_(out) || out.ndim() != 1 || !out.writeable() ||
        !is_aligned<T>(out))
        throw pybind11::value_error(
            "out must be a writable, contiguous, aligned, one-dimensional array of the dtype");
    if (out.size() < size) {
        throw pybind11::value_error("out holds " + std::to_string(out.size()) + " values, needed are up to " +
                                    std::to_string(size));
    }
    return pybind11::reinterpret_borrow<pybind11::array_t<T>>(out);
}

// The characters of a batch of str or bytes, one byte each. Keeps the objects alive, so that the GIL may be
// released; create and destroy it with the GIL held. Only a str with characters beyond Latin-1 is copied.
class TextBatch {
  public:
    explicit TextBatch(const pybind11::object& sequences) : owner_(sequences) {
        texts_.reserve(owner_.size());
        for (std::size_t i = 0; i < owner_.size(); ++i) {
            texts_.push_back(text_of(PyTuple_GET_ITEM(owner_.ptr(), static_cast<Py_ssize_t>(i)), i));
        }
    }

    std::span<const Text> texts() const noexcept { return texts_; }
    std::size_t size() const noexcept { return texts_.size(); }
    pybind11::handle object(std::size_t i) const {
        return PyTuple_GET_ITEM(owner_.ptr(), static_cast<Py_ssize_t>(i));
    }

  private:
    Text text_of(PyObject* item, std::size_t index) {
        if (PyUnicode_Check(item)) {
            const auto size = static_cast<std::size_t>(PyUnicode_GET_LENGTH(item));
            if (PyUnicode_KIND(item) == PyUnicode_1BYTE_KIND) return {PyUnicode_1BYTE_DATA(item), size};
            return narrowed(item, size);
        }
        if (PyBytes_Check(item)) {
            return {reinterpret_cast<const std::uint8_t*>(PyBytes_AS_STRING(item)),
                    static_cast<std::size_t>(PyBytes_GET_SIZE(item))};
        }
        throw pybind11::type_error("sequences[" + std::to_string(index) + "] is " + Py_TYPE(item)->tp_name +
                                   ", expected str or bytes");
    }

    Text narrowed(PyObject* item, std::size_t size) {
        std::vector<std::uint8_t>& copy = copies_.emplace_back(size);
        for (std::size_t i = 0; i < size; ++i) {
            const Py_UCS4 character = PyUnicode_READ_CHAR(item, static_cast<Py_ssize_t>(i));
            copy[i] = character < 256                 ? static_cast<std::uint8_t>(character)
                      : Py_UNICODE_ISSPACE(character) ? std::uint8_t{' '}
                                                      : substitute;
        }
        return copy;
    }

    pybind11::tuple owner_;
    std::vector<Text> texts_;
    std::deque<std::vector<std::uint8_t>> copies_;
};

}  // namespace fastgenome
