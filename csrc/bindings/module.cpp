// Wires the extension module `fastgenome._core`; the bindings themselves stand in register_*.cpp.
#include "register.hpp"

PYBIND11_MODULE(_core, module) {
    module.doc() = "Tokenizers, features and sequence readers of fastgenome in C++.";
    fastgenome::register_errors(module);
    fastgenome::register_runtime(module);
    fastgenome::register_tokenizers(module);
    fastgenome::register_features(module);
    fastgenome::register_curves(module);
    fastgenome::register_sequences(module);
    fastgenome::register_genome(module);
}
