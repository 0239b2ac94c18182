// Sliding k-mers of any bytes, at any k and stride, with ids in any order and of each width, on one thread or
// several, against their definition.
#include "fastgenome/sliding_kmers.hpp"

#include <map>
#include <memory>
#include <numeric>
#include <string_view>
#include <tuple>
#include <vector>

#include "fuzzing.hpp"

namespace {

constexpr std::string_view letters = "ATCG";
constexpr auto digits = fuzzing::places_in(letters);

// Whether `ids` are those of all windows of the text.
template <typename Id>
FUZZING_DEFINITION bool are_right(const std::uint8_t* text, std::int64_t size, int k, int stride,
                                  const std::int32_t* table, std::int32_t unknown, const Id* ids,
                                  std::int64_t count) {
    const std::int8_t* const digit_of = digits.data();
    std::int64_t made = 0;
    for (std::int64_t start = 0; start + k <= size; start += stride) {
        std::int32_t code = 0;
        bool is_known = true;
        for (std::int64_t i = start; i < start + k; ++i) {
            is_known = is_known && digit_of[text[i]] >= 0;
            code = code * 4 + (digit_of[text[i]] & 3);
        }
        if (made == count || ids[made++] != static_cast<Id>(is_known ? table[code] : unknown)) return false;
    }
    return made == count;
}

struct Encoder {
    std::vector<std::int32_t> ids;
    std::int32_t unknown;
    std::unique_ptr<fastgenome::SlidingKmers> encoder;
};

// Encoders are made once for each k, stride, order and width: 4^8 ids would take longer than the texts. All
// ids fit into the width.
const Encoder& encoder_of(int k, int stride, bool in_order, std::size_t width) {
    static std::map<std::tuple<int, int, bool, std::size_t>, Encoder> encoders;
    Encoder& entry = encoders[{k, stride, in_order, width}];
    if (entry.encoder == nullptr) {
        entry.unknown = width == 1 ? 255 : width == 2 ? 65'535 : 1'000'000;
        entry.ids.resize(std::size_t{1} << (2 * k));
        std::iota(entry.ids.begin(), entry.ids.end(), 5);
        if (!in_order) {
            const std::size_t modulus = width == 1 ? 251 : 65'521;
            for (std::size_t code = 0; code < entry.ids.size(); ++code)
                entry.ids[code] = static_cast<std::int32_t>(code * 40'503 % modulus);
        }
        entry.encoder =
            std::make_unique<fastgenome::SlidingKmers>(k, stride, letters, entry.ids, entry.unknown);
    }
    return entry;
}

template <typename Id>
void check(fuzzing::Input& input) {
    const int k = std::min(input.between(1, 8), sizeof(Id) == 1 ? 3 : sizeof(Id) == 2 ? 7 : 8);
    const int stride = input.between(1, 31);
    const int flags = input.byte();
    const Encoder& made = encoder_of(k, stride, flags % 2 == 1, sizeof(Id));

    const fastgenome::Text text = input.rest();
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<Id> out(made.encoder->bound(length));
    fastgenome::SlidingKmers::Scratch scratch;
    made.encoder->prepare(scratch, length);
    // Threads cost more than a text, so that few executions take them.
    const std::int64_t count = flags >= 248
                                   ? made.encoder->encode_parallel(text, out.data(), flags / 2 % 4 + 2)
                                   : made.encoder->encode(text, out.data(), scratch);
    fuzzing::require(are_right(text.data(), length, k, stride, made.ids.data(), made.unknown,
                               static_cast<const Id*>(out.data()), count),
                     "one id per window, and the right one");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    fuzzing::with_ids(input, [&]<typename Id>(Id) { check<Id>(input); });
    return 0;
}
