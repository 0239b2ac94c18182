// Non-overlapping k-mers of any bytes, as ids of each width, against their definition, taken one character at
// a time.
#include "fastgenome/block_kmers.hpp"

#include <array>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "fuzzing.hpp"

namespace {

constexpr std::string_view letters = "ATCG";
constexpr auto digits = fuzzing::places_in(letters);
constexpr std::int32_t unknown = 0;
constexpr std::int32_t first_kmer = 10;

// Single characters: the bases, N, and two that lie at the ends of the byte range.
std::array<std::int32_t, 256> character_ids(std::size_t width) {
    std::array<std::int32_t, 256> ids;
    ids.fill(-1);
    std::int32_t next = width == 1 ? 100 : width == 2 ? 60'000 : 100'000;
    for (const char letter : std::string_view("ATCGN")) ids[static_cast<std::uint8_t>(letter)] = next++;
    ids[0] = next++;
    ids[255] = next;
    return ids;
}

// Whether `ids` are those of the text.
template <typename Id>
FUZZING_DEFINITION bool are_right(const std::uint8_t* text, std::size_t size, std::size_t k, const Id* ids,
                                  std::size_t count) {
    static const auto characters = character_ids(sizeof(Id));
    const std::int32_t* const single = characters.data();
    const std::int8_t* const digit_of = digits.data();
    const std::int8_t* const white = fuzzing::white_space.data();
    std::size_t made = 0;
    bool in_unknown = false;
    for (std::size_t i = 0; i < size;) {
        std::int32_t code = 0;
        std::size_t run = 0;
        for (; run < k && i + run < size && digit_of[text[i + run]] >= 0; ++run)
            code = code * 4 + digit_of[text[i + run]];
        const bool is_kmer = run == k;
        const bool is_strange = !is_kmer && single[text[i]] < 0 && white[text[i]] < 0;
        const bool is_token = is_kmer || single[text[i]] >= 0 || (is_strange && !in_unknown);
        const std::int32_t id = is_kmer ? first_kmer + code : is_strange ? unknown : single[text[i]];
        if (is_token && (made == count || ids[made++] != static_cast<Id>(id))) return false;
        in_unknown = is_strange;
        i += is_kmer ? k : 1;
    }
    return made == count;
}

template <typename Id>
const fastgenome::BlockKmers& encoder_of(int k) {
    static std::array<std::unique_ptr<fastgenome::BlockKmers>, 9> encoders;
    auto& encoder = encoders[static_cast<std::size_t>(k)];
    if (encoder == nullptr) {
        std::vector<std::int32_t> ids(std::size_t{1} << (2 * k));
        std::iota(ids.begin(), ids.end(), first_kmer);
        encoder =
            std::make_unique<fastgenome::BlockKmers>(k, letters, ids, unknown, character_ids(sizeof(Id)));
    }
    return *encoder;
}

template <typename Id>
void check(fuzzing::Input& input) {
    // All k-mers have ids of this width.
    const int k = std::min(input.between(1, 8), sizeof(Id) == 1 ? 3 : sizeof(Id) == 2 ? 7 : 8);
    const auto& encoder = encoder_of<Id>(k);
    const fastgenome::Text text = input.rest();
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<Id> out(encoder.bound(length));
    fastgenome::BlockKmers::Scratch scratch;
    encoder.prepare(scratch, length);
    const std::int64_t count = encoder.encode(text, out.data(), scratch);
    fuzzing::require(are_right<Id>(text.data(), text.size(), static_cast<std::size_t>(k), out.data(),
                                   static_cast<std::size_t>(count)),
                     "the ids are the definition's");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    fuzzing::with_ids(input, [&]<typename Id>(Id) { check<Id>(input); });
    return 0;
}
