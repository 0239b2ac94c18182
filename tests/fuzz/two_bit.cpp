// 2bit files of any bytes, and sound ones made from the input, whose letters have to come back.
#include "fastgenome/two_bit.hpp"

#include <memory>
#include <string>
#include <vector>

#include "fuzzing.hpp"
#include "memory_source.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

void put(Bytes& file, std::uint32_t word, bool is_big) {
    for (int i = 0; i < 4; ++i) file.push_back(static_cast<std::uint8_t>(word >> 8 * (is_big ? 3 - i : i)));
}

// Runs of `letters` that fulfil a condition, as starts and then sizes.
template <typename Condition>
void put_blocks(Bytes& file, const std::string& letters, bool is_big, Condition condition) {
    std::vector<std::uint32_t> starts;
    std::vector<std::uint32_t> sizes;
    for (std::uint32_t i = 0; i < letters.size(); ++i) {
        if (!condition(letters[i])) continue;
        if (starts.empty() || starts.back() + sizes.back() != i) {
            starts.push_back(i);
            sizes.push_back(0);
        }
        ++sizes.back();
    }
    put(file, static_cast<std::uint32_t>(starts.size()), is_big);
    for (const std::uint32_t start : starts) put(file, start, is_big);
    for (const std::uint32_t size : sizes) put(file, size, is_big);
}

// A file with one contig, by the published layout.
Bytes sound_file(const std::string& letters, bool is_big, bool is_long) {
    Bytes file;
    put(file, 0x1A412743, is_big);
    put(file, is_long, is_big);
    put(file, 1, is_big);
    put(file, 0, is_big);
    file.push_back(3);
    for (const char letter : {'o', 'n', 'e'}) file.push_back(static_cast<std::uint8_t>(letter));
    const auto offset = static_cast<std::uint32_t>(file.size() + (is_long ? 8 : 4));
    if (is_long && is_big) put(file, 0, is_big);
    put(file, offset, is_big);
    if (is_long && !is_big) put(file, 0, is_big);
    put(file, static_cast<std::uint32_t>(letters.size()), is_big);
    put_blocks(file, letters, is_big, [](char letter) { return (letter | 32) == 'n'; });
    put_blocks(file, letters, is_big, [](char letter) { return letter >= 'a'; });
    put(file, 0, is_big);
    constexpr auto codes = fuzzing::places_in("TCAG");
    for (std::size_t i = 0; i < letters.size(); i += 4) {
        int byte = 0;
        for (std::size_t j = i; j < i + 4; ++j) {
            const int code = j < letters.size() ? codes[static_cast<std::uint8_t>(letters[j] & 0xDF)] : 0;
            byte = byte << 2 | (code < 0 ? 0 : code);
        }
        file.push_back(static_cast<std::uint8_t>(byte));
    }
    return file;
}

void check_sound(fuzzing::Input& input, bool keep_case) {
    const bool is_big = input.byte() % 2 == 1;
    const bool is_long = input.byte() % 2 == 1;
    std::string letters;
    for (const std::uint8_t byte : input.rest()) {
        letters += "ACGTACGTACGTACGTNNNNacgtacgtnnnn"[byte % 32];
    }
    const Bytes file = sound_file(letters, is_big, is_long);
    const fastgenome::TwoBitGenome genome(std::make_unique<fuzzing::MemorySource>(file), keep_case);
    fuzzing::require(genome.contigs().size() == 1 && genome.contigs()[0].name == "one",
                     "the contig is found");
    if (!keep_case) {
        for (char& letter : letters) letter &= static_cast<char>(0xDF);
    }
    Bytes read;
    const std::int64_t length = genome.contigs()[0].length;
    fuzzing::require(fuzzing::read_region(genome, {0, 0, length}, read), "a sound file is read");
    fuzzing::require(std::string(read.begin(), read.end()) == letters, "its letters come back");
    fuzzing::check_parts(genome, 0, input);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int flags = input.byte();
    const bool keep_case = flags & 1;
    if (flags & 2) {
        check_sound(input, keep_case);
        return 0;
    }
    const fastgenome::Text file = input.rest();
    try {
        const fastgenome::TwoBitGenome genome(std::make_unique<fuzzing::MemorySource>(file), keep_case);
        for (std::size_t i = 0; i < std::min<std::size_t>(genome.contigs().size(), 4); ++i) {
            fuzzing::check_parts(genome, static_cast<std::int64_t>(i), input);
        }
    } catch (const fastgenome::malformed_input&) {
        return 0;
    }
    return 0;
}
