// Batches of any texts, cleaned or raw with spellings of special tokens in them, on one thread or several.
#include "fastgenome/batch.hpp"

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fastgenome/character.hpp"
#include "fastgenome/only_bases.hpp"
#include "fuzzing.hpp"

namespace {

using fastgenome::Text;
using Spellings = std::vector<std::pair<std::string, std::int32_t>>;

const Spellings spellings = {{"[A]", 300}, {"[A][", 301},   {"<C", 302},
                             {"<C>", 303}, {"[A][A]", 304}, {"", 305}};

std::array<std::int32_t, 256> character_ids() {
    std::array<std::int32_t, 256> ids{};
    for (std::int32_t byte = 0; byte < 256; ++byte) ids[byte] = 255 - byte;
    return ids;
}

// Texts lie between bytes 0xFF; common bytes are drawn together, so that spellings come up.
std::vector<std::vector<std::uint8_t>> split(Text bytes) {
    std::vector<std::vector<std::uint8_t>> texts(1);
    for (const std::uint8_t byte : bytes) {
        if (byte == 0xFF) {
            texts.emplace_back();
        } else {
            texts.back().push_back(byte < 64 ? static_cast<std::uint8_t>("[A]<C>Na"[byte % 8]) : byte);
        }
    }
    return texts;
}

std::vector<std::int32_t> by_definition(const std::vector<std::uint8_t>& text, bool clean,
                                        bool has_literals) {
    static const auto ids_of = character_ids();
    std::vector<std::uint8_t> plain = text;
    if (clean && !fastgenome::only_upper_bases(text)) {
        plain.resize(static_cast<std::size_t>(fastgenome::clean_into(text, plain).length));
    }
    const std::string_view characters(reinterpret_cast<const char*>(plain.data()), plain.size());
    std::vector<std::int32_t> ids;
    ids.reserve(plain.size());
    for (std::size_t i = 0; i < plain.size();) {
        if (clean || !has_literals || (plain[i] != '[' && plain[i] != '<')) {
            ids.push_back(ids_of[plain[i++]]);
            continue;
        }
        const std::pair<std::string, std::int32_t>* longest = nullptr;
        for (const auto& entry : spellings) {
            if (!entry.first.empty() && characters.substr(i).starts_with(entry.first) &&
                (longest == nullptr || entry.first.size() > longest->first.size())) {
                longest = &entry;
            }
        }
        if (longest == nullptr) {
            ids.push_back(ids_of[plain[i++]]);
        } else {
            ids.push_back(longest->second);
            i += longest->first.size();
        }
    }
    return ids;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto ids_of = character_ids();
    static const fastgenome::Characters encoder(ids_of);
    static const fastgenome::Literals literals(spellings);
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const int flags = input.byte();
    const bool clean = flags % 2 == 1;
    const bool has_literals = flags & 2;
    // Threads cost more than a text, so that few executions take them.
    const int threads = flags >= 250 ? flags - 248 : 1;
    const std::vector<std::int32_t> around = {-7, -8};
    const fastgenome::BatchLayout layout{.prefix = std::span(around).first(flags >> 2 & 1),
                                         .suffix = std::span(around).first(flags >> 3 & 1),
                                         .literals = has_literals ? &literals : nullptr,
                                         .clean = clean,
                                         .threads = threads};
    const auto owned = split(input.rest());
    const std::vector<Text> texts(owned.begin(), owned.end());
    std::int64_t capacity = 0;
    for (const Text text : texts) {
        capacity += fastgenome::sequence_bound(encoder, static_cast<std::int64_t>(text.size()), layout);
    }
    fuzzing::Buffer<std::int32_t> ids(capacity);
    fuzzing::Buffer<std::int64_t> offsets(static_cast<std::int64_t>(texts.size()) + 1);
    const auto result = fastgenome::encode_batch(encoder, texts, layout, ids.span(), offsets.span());

    fuzzing::require(offsets[0] == 0 && offsets[texts.size()] == result.total, "offsets span all ids");
    for (std::size_t i = 0; i < texts.size(); ++i) {
        std::vector<std::int32_t> expected(layout.prefix.begin(), layout.prefix.end());
        const auto inner = by_definition(owned[i], clean, has_literals);
        expected.insert(expected.end(), inner.begin(), inner.end());
        expected.insert(expected.end(), layout.suffix.begin(), layout.suffix.end());
        const std::vector<std::int32_t> got(ids.data() + offsets[i], ids.data() + offsets[i + 1]);
        fuzzing::require(got == expected, "each text has its own ids");
    }
    return 0;
}
