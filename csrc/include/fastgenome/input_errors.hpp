// What a reader throws when the bytes of a file are not what its format says.
#pragma once

#include <stdexcept>

namespace fastgenome {

// The bytes do not follow the format; the message says where.
class malformed_input : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The bytes end too early.
class truncated_input : public malformed_input {
    using malformed_input::malformed_input;
};

// A stretch was asked for that is not there; the message says what is.
class bad_region : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace fastgenome
