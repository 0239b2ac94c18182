// Bytes that can be read at any place.
#pragma once

#include <cstdint>
#include <span>

namespace fastgenome {

// Contract: reading has no position that another reader could move, so that threads and children made by fork
// share a source freely; every byte asked for is read, or the call throws.
class ByteSource {
  public:
    virtual ~ByteSource() = default;

    virtual std::int64_t size() const = 0;

    // Fills `out` from the byte at `offset` on.
    virtual void read(std::int64_t offset, std::span<std::uint8_t> out) const = 0;

    // Throws malformed_input when the bytes are not those that were opened any more.
    virtual void check_unchanged() const {}
};

}  // namespace fastgenome
