// Sliding k-mers of any bytes, at any k and stride and with ids in any order, against their definition.
#include "fastgenome/sliding_kmers.hpp"

#include <numeric>
#include <string_view>
#include <vector>

#include "fuzzing.hpp"

namespace {

constexpr std::string_view letters = "ATCG";
constexpr auto digits = fuzzing::places_in(letters);
constexpr std::int32_t unknown = 1'000'000;

// Whether `ids` are those of all windows of the text.
FUZZING_DEFINITION bool are_right(const std::uint8_t* text, std::int64_t size, int k, int stride,
                                  const std::int32_t* table, const std::int32_t* ids, std::int64_t count) {
    const std::int8_t* const digit_of = digits.data();
    std::int64_t made = 0;
    for (std::int64_t start = 0; start + k <= size; start += stride) {
        std::int32_t code = 0;
        bool is_known = true;
        for (std::int64_t i = start; i < start + k; ++i) {
            is_known = is_known && digit_of[text[i]] >= 0;
            code = code * 4 + (digit_of[text[i]] & 3);
        }
        if (made == count || ids[made++] != (is_known ? table[code] : unknown)) return false;
    }
    return made == count;
}

// Encoders are made once for each k and stride: 4^8 ids would take longer than the texts.
const fastgenome::SlidingKmers& encoder_of(int k, int stride, bool in_order,
                                           const std::vector<std::int32_t>*& ids) {
    struct Entry {
        std::vector<std::int32_t> ids;
        std::unique_ptr<fastgenome::SlidingKmers> encoder;
    };
    static std::vector<Entry> entries(9 * 32 * 2);
    Entry& entry = entries[static_cast<std::size_t>((k * 32 + stride) * 2 + in_order)];
    if (entry.encoder == nullptr) {
        entry.ids.resize(std::size_t{1} << (2 * k));
        std::iota(entry.ids.begin(), entry.ids.end(), 5);
        if (!in_order) {
            for (std::size_t code = 0; code < entry.ids.size(); ++code) {
                entry.ids[code] = static_cast<std::int32_t>(code * 40'503 % 65'537);
            }
        }
        entry.encoder = std::make_unique<fastgenome::SlidingKmers>(k, stride, letters, entry.ids, unknown);
    }
    ids = &entry.ids;
    return *entry.encoder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int k = input.between(1, 8);
    const int stride = input.between(1, 31);
    const std::vector<std::int32_t>* ids = nullptr;
    const auto& encoder = encoder_of(k, stride, input.byte() % 2 == 1, ids);

    const fastgenome::Text text = input.rest();
    const auto length = static_cast<std::int64_t>(text.size());
    fuzzing::Buffer<std::int32_t> out(encoder.bound(length));
    fastgenome::SlidingKmers::Scratch scratch;
    encoder.prepare(scratch, length);
    const std::int64_t count = encoder.encode(text, out.data(), scratch);
    fuzzing::require(are_right(text.data(), length, k, stride, ids->data(), out.data(), count),
                     "one id per window, and the right one");
    return 0;
}
