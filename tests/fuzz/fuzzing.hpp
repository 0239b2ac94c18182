// What the targets share: parameters from the front of the input, text from its end, and buffers whose ends
// the address sanitizer guards.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "fastgenome/alphabet.hpp"
#include "fastgenome/instruction_sets.hpp"

// Definitions run without instrumentation, or they would take more time than what they judge: they are marked
// with this and keep to plain loops over memory.
#ifdef __clang__
#define FUZZING_DEFINITION __attribute__((no_sanitize("address", "undefined", "coverage")))
#else
#define FUZZING_DEFINITION __attribute__((no_sanitize("address", "undefined")))
#endif

namespace fuzzing {

using fastgenome::Text;

// Ends the process, as a sanitizer does, where something does not hold.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

// Place of each byte in `letters`, or -1: what a definition needs to know of a letter, without a search.
constexpr std::array<std::int8_t, 256> places_in(std::string_view letters) {
    std::array<std::int8_t, 256> places{};
    for (std::int8_t& place : places) place = -1;
    for (std::size_t i = 0; i < letters.size(); ++i) {
        places[static_cast<std::uint8_t>(letters[i])] = static_cast<std::int8_t>(i);
    }
    return places;
}

// Any bytes as a clean text: one in sixteen is N.
inline std::vector<std::uint8_t> to_dna(Text bytes) {
    std::vector<std::uint8_t> text(bytes.begin(), bytes.end());
    for (std::uint8_t& byte : text) byte = static_cast<std::uint8_t>(byte < 16 ? 'N' : "ACGT"[byte % 4]);
    return text;
}

// White space as Python's str.isspace() has it within Latin-1.
inline constexpr auto white_space = places_in("\t\n\v\f\r\x1C\x1D\x1E\x1F \x85\xA0");

// The bytes of one execution, taken from the front; what is left over is the text, so that its end is the end
// of the fuzzer's own buffer.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}

    // The next byte, or 0 when there are none left.
    std::uint8_t byte() {
        if (bytes_.empty()) return 0;
        const std::uint8_t first = bytes_[0];
        bytes_ = bytes_.subspan(1);
        return first;
    }

    int between(int least, int most) { return least + byte() % (most - least + 1); }

    Text rest() const { return bytes_; }

    // Each execution chooses how the core runs.
    void choose_instruction_set() {
        fastgenome::limit_instruction_set(static_cast<fastgenome::InstructionSet>(byte() % 3));
#ifdef FASTGENOME_PORTABLE
        require(fastgenome::instruction_set() == fastgenome::InstructionSet::baseline,
                "a portable build has the plain loops alone");
#endif
    }

  private:
    Text bytes_;
};

// Calls work(Id{}) with one of the four widths of ids, as the input chooses.
template <typename Work>
void with_ids(Input& input, const Work& work) {
    switch (input.byte() % 4) {
        case 0:
            return work(std::uint8_t{});
        case 1:
            return work(std::uint16_t{});
        case 2:
            return work(std::int32_t{});
        default:
            return work(std::int64_t{});
    }
}

// Memory of exactly `size` elements, filled with a pattern, so that reading what was not written shows.
template <typename T>
class Buffer {
  public:
    explicit Buffer(std::int64_t size)
        : size_(static_cast<std::size_t>(size)), data_(new T[static_cast<std::size_t>(size)]) {
        std::fill_n(data_.get(), size_, static_cast<T>(0x5A));
    }

    T* data() { return data_.get(); }
    std::span<T> span() { return {data_.get(), size_}; }
    T operator[](std::size_t i) const { return data_[i]; }

  private:
    std::size_t size_;
    std::unique_ptr<T[]> data_;
};

// The text again and again, up to `size` letters: the core's blocks are longer than inputs that a fuzzer
// changes well.
inline std::vector<std::uint8_t> repeated(Text text, std::size_t size) {
    std::vector<std::uint8_t> made;
    made.reserve(size);
    while (!text.empty() && made.size() < size) {
        const Text part = text.first(std::min(text.size(), size - made.size()));
        made.insert(made.end(), part.begin(), part.end());
    }
    made.shrink_to_fit();
    return made;
}

}  // namespace fuzzing
