// The registration functions that module.cpp wires together, one per source file of this folder.
#pragma once

#include <pybind11/pybind11.h>

namespace fastgenome {

void register_errors(pybind11::module_& module);
void register_runtime(pybind11::module_& module);
void register_tokenizers(pybind11::module_& module);
void register_features(pybind11::module_& module);
void register_curves(pybind11::module_& module);
void register_sequences(pybind11::module_& module);
void register_genome(pybind11::module_& module);

}  // namespace fastgenome
