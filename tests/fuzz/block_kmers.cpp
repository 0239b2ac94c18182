// Non-overlapping k-mers of any bytes against their definition, taken one character at a time.
#include <array>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "fastgenome/kmer.hpp"
#include "fuzzing.hpp"

namespace {

constexpr std::string_view letters = "ATCG";
constexpr auto digits = fuzzing::places_in(letters);
constexpr std::int32_t unknown = 0;
constexpr std::int32_t first_kmer = 10;

// Single characters: the bases, N, and two that lie at the ends of the byte range.
std::array<std::int32_t, 256> character_ids() {
    std::array<std::int32_t, 256> ids;
    ids.fill(-1);
    std::int32_t next = 100'000;
    for (const char letter : std::string_view("ATCGN")) ids[static_cast<std::uint8_t>(letter)] = next++;
    ids[0] = next++;
    ids[255] = next;
    return ids;
}

std::vector<std::int32_t> by_definition(fastgenome::Text text, std::size_t k) {
    static const auto characters = character_ids();
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    bool in_unknown = false;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t code = 0;
        std::size_t run = 0;
        while (run < k && i + run < text.size()) {
            const std::int8_t digit = digits[text[i + run]];
            if (digit < 0) break;
            code = code * 4 + static_cast<std::size_t>(digit);
            ++run;
        }
        if (run == k) {
            ids.push_back(first_kmer + static_cast<std::int32_t>(code));
            i += k;
            in_unknown = false;
            continue;
        }
        const std::uint8_t byte = text[i++];
        const bool is_strange = characters[byte] < 0 && fuzzing::white_space[byte] < 0;
        if (characters[byte] >= 0) ids.push_back(characters[byte]);
        if (is_strange && !in_unknown) ids.push_back(unknown);
        in_unknown = is_strange;
    }
    return ids;
}

const fastgenome::BlockKmers& encoder_of(int k) {
    static std::array<std::unique_ptr<fastgenome::BlockKmers>, 9> encoders;
    auto& encoder = encoders[static_cast<std::size_t>(k)];
    if (encoder == nullptr) {
        std::vector<std::int32_t> ids(std::size_t{1} << (2 * k));
        std::iota(ids.begin(), ids.end(), first_kmer);
        encoder = std::make_unique<fastgenome::BlockKmers>(k, letters, ids, unknown, character_ids());
    }
    return *encoder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int k = input.between(1, 8);
    const auto& encoder = encoder_of(k);
    const fastgenome::Text text = input.rest();
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<std::int32_t> out(encoder.bound(length));
    fastgenome::BlockKmers::Scratch scratch;
    encoder.prepare(scratch, length);
    const std::int64_t count = encoder.encode(text, out.data(), scratch);
    const std::vector<std::int32_t> got(out.data(), out.data() + count);
    fuzzing::require(got == by_definition(text, static_cast<std::size_t>(k)), "the ids are the definition's");
    return 0;
}
