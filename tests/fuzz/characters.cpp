// One token per character, of any bytes through any table, as ids of each width, on one thread or several.
#include <array>
#include <limits>

#include "fastgenome/character.hpp"
#include "fuzzing.hpp"

namespace {

using Table = std::array<std::int32_t, 256>;

// Small ids and large ones, so that a table of bytes and one of words are both met.
Table read_table(fuzzing::Input& input, std::int64_t largest) {
    const bool is_wide = input.byte() % 2 == 1;
    const std::int64_t step = input.byte();
    const std::int64_t modulus = is_wide ? std::min<std::int64_t>(largest, 2'000'000'011) : 251;
    Table ids{};
    for (std::int64_t byte = 0; byte < 256; ++byte)
        ids[byte] = static_cast<std::int32_t>(byte * (is_wide ? 1'000'003 : step) % modulus);
    return ids;
}

template <typename Id>
void check(fuzzing::Input& input) {
    const Table ids = read_table(input, std::int64_t{std::numeric_limits<Id>::max()});
    const int shared = input.byte();
    const fastgenome::Text text = input.rest();
    const fastgenome::Characters encoder(ids);
    fastgenome::Characters::Scratch scratch;
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<Id> out(encoder.bound(length));
    encoder.prepare(scratch, length);
    // Threads cost more than a text, so that few executions take them.
    const std::int64_t count = shared >= 248 ? encoder.encode_parallel(text, out.data(), shared - 246)
                                             : encoder.encode(text, out.data(), scratch);
    fuzzing::require(count == length, "one id per character");
    for (std::size_t i = 0; i < text.size(); ++i)
        fuzzing::require(out[i] == static_cast<Id>(ids[text[i]]), "the id of the character");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    fuzzing::with_ids(input, [&]<typename Id>(Id) { check<Id>(input); });
    return 0;
}
