// One token per character, of any bytes through any table.
#include <array>

#include "fastgenome/character.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    // Small ids and large ones, so that a table of bytes and one of words are both met.
    const bool is_wide = input.byte() % 2 == 1;
    const auto step = static_cast<std::int32_t>(input.byte());
    std::array<std::int32_t, 256> ids{};
    for (std::int32_t byte = 0; byte < 256; ++byte)
        ids[byte] = is_wide ? byte * 1'000'003 % 2'000'000'011 : byte * step % 251;

    const fastgenome::Text text = input.rest();
    const fastgenome::Characters encoder(ids);
    fastgenome::Characters::Scratch scratch;
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<std::int32_t> out(encoder.bound(length));
    encoder.prepare(scratch, length);
    fuzzing::require(encoder.encode(text, out.data(), scratch) == length, "one id per character");
    for (std::size_t i = 0; i < text.size(); ++i)
        fuzzing::require(out[i] == ids[text[i]], "the id of the character");
    return 0;
}
