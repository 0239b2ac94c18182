// One token per character, by table.
//
// Contract: writes exactly one id per byte; never throws, never allocates.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "alphabet.hpp"

namespace fastgenome {

class Characters {
  public:
    struct Scratch {};

    // `ids` holds the token of each of the 256 characters, the unknown token included.
    explicit Characters(std::span<const std::int32_t> ids) {
        if (ids.size() != ids_.size()) throw std::invalid_argument("ids must have 256 entries");
        std::copy(ids.begin(), ids.end(), ids_.begin());
    }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch&, std::int64_t) const noexcept {}

    std::int64_t encode(Text text, std::int32_t* out, Scratch&) const noexcept {
        for (std::size_t i = 0; i < text.size(); ++i) out[i] = ids_[text[i]];
        return static_cast<std::int64_t>(text.size());
    }

  private:
    std::array<std::int32_t, 256> ids_{};
};

}  // namespace fastgenome
