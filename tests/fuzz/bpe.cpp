// Byte-pair encoding with any merge list, of any text: the encoder, whole and in pieces, merging by rank with
// a heap, and the definition, which looks for the lowest rank again after each merge, have to agree. A share
// of the texts is repeated to 20,000 letters, more than two blocks of the walk; the definition would take too
// long for these, so that the heap, which the others judge, stands for it.
#include "fastgenome/bpe.hpp"

#include <array>
#include <string_view>
#include <vector>

#include "fuzzing.hpp"

namespace {

using fastgenome::Merge;
using fastgenome::Text;

constexpr std::string_view alphabet = "ACGTN";
constexpr std::int32_t unknown = 999;

constexpr std::size_t long_text = 20'000;

struct Parameters {
    std::array<std::int32_t, 256> bytes;
    std::vector<Merge> merges;
};

// Merges of earlier tokens with a new result, as a trainer makes them; and, where the input says so, others:
// with a result that exists already, or with parts that come later or never.
Parameters read_parameters(fuzzing::Input& input) {
    Parameters made;
    made.bytes.fill(-1);
    const int letters = input.between(1, static_cast<int>(alphabet.size()));
    const bool ids_fall = input.byte() % 2 == 1;
    const auto id_of = [ids_fall](int token) { return ids_fall ? 300 - token : 3 + token; };
    for (int i = 0; i < letters; ++i) made.bytes[static_cast<std::uint8_t>(alphabet[i])] = id_of(i);
    const int count = input.between(0, 40);
    int tokens = letters;
    for (int i = 0; i < count; ++i) {
        const int kind = input.byte();
        const int left = input.byte() % (kind >= 240 ? tokens + 4 : tokens);
        const int right = input.byte() % (kind >= 240 ? tokens + 4 : tokens);
        const int result = kind >= 200 ? kind % (tokens + 1) : tokens;
        made.merges.push_back({id_of(left), id_of(right), id_of(result)});
        tokens += result == tokens;
    }
    return made;
}

// Ranks of all pairs of ids below 512, made anew for each merge list; -1 where there is none.
class Ranks {
  public:
    explicit Ranks(const std::vector<Merge>& merges) : merges_(merges) {
        for (std::size_t rank = 0; rank < merges.size(); ++rank) {
            at(merges[rank].left, merges[rank].right) = static_cast<std::int16_t>(rank);
        }
    }
    ~Ranks() {
        for (const Merge& merge : merges_) at(merge.left, merge.right) = -1;
    }

    std::int16_t& at(std::int32_t left, std::int32_t right) {
        static std::vector<std::int16_t> table(512 * 512, -1);
        return table[static_cast<std::size_t>(left * 512 + right)];
    }

  private:
    const std::vector<Merge>& merges_;
};

void merge_by_definition(const std::vector<Merge>& merges, std::vector<std::int32_t>& tokens) {
    Ranks ranks(merges);
    while (true) {
        int best = -1;
        std::size_t place = 0;
        for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
            const int rank = ranks.at(tokens[i], tokens[i + 1]);
            if (rank >= 0 && (best < 0 || rank < best)) {
                best = rank;
                place = i;
            }
        }
        if (best < 0) return;
        tokens[place] = merges[static_cast<std::size_t>(best)].result;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
}

// White space that parts words for the tokenizers library: the four separators are none.
constexpr auto breaks = fuzzing::places_in("\t\n\v\f\r \x85\xA0");

// Ids of a text whose pieces between breaks become what `merge` makes of them.
template <typename MergePiece>
std::vector<std::int32_t> by_pieces(const Parameters& parameters, Text text, const MergePiece& merge) {
    std::vector<std::int32_t> ids;
    std::size_t begin = 0;
    for (std::size_t end = 0; end <= text.size(); ++end) {
        if (end < text.size() && parameters.bytes[text[end]] >= 0) continue;
        const std::vector<std::int32_t> piece = merge(text.subspan(begin, end - begin));
        ids.insert(ids.end(), piece.begin(), piece.end());
        if (end < text.size() && breaks[text[end]] < 0) ids.push_back(unknown);
        begin = end + 1;
    }
    return ids;
}

std::vector<std::int32_t> by_definition(const Parameters& parameters, Text text) {
    return by_pieces(parameters, text, [&](Text piece) {
        std::vector<std::int32_t> ids;
        for (const std::uint8_t byte : piece) ids.push_back(parameters.bytes[byte]);
        merge_by_definition(parameters.merges, ids);
        return ids;
    });
}

std::vector<std::int32_t> by_heap(const Parameters& parameters, const fastgenome::MergeList& list,
                                  Text text) {
    return by_pieces(parameters, text, [&](Text piece) {
        fastgenome::MergeScratch heap;
        heap.prepare(static_cast<std::int64_t>(piece.size()));
        fuzzing::Buffer<std::int32_t> merged(static_cast<std::int64_t>(piece.size()));
        const std::int64_t count = fastgenome::merge_by_rank(list, piece, merged.data(), heap);
        return std::vector<std::int32_t>(merged.data(), merged.data() + count);
    });
}

std::vector<std::int32_t> encoded(const fastgenome::Bpe& encoder, Text text) {
    const auto length = static_cast<std::int64_t>(text.size());
    fastgenome::Bpe::Scratch scratch;
    fuzzing::Buffer<std::int32_t> out(encoder.bound(length));
    encoder.prepare(scratch, length);
    const std::int64_t count = encoder.encode(text, out.data(), scratch);
    return {out.data(), out.data() + count};
}

std::vector<std::int32_t> encoded_in_pieces(const fastgenome::Bpe& encoder, Text text, int parts) {
    std::vector<std::int32_t> ids;
    std::int64_t place = 0;
    for (const fastgenome::Range range : encoder.split(text, parts)) {
        fuzzing::require(range.begin == place && range.end >= place, "pieces follow one another");
        place = range.end;
        const auto piece = encoded(encoder, text.subspan(static_cast<std::size_t>(range.begin),
                                                         static_cast<std::size_t>(place - range.begin)));
        ids.insert(ids.end(), piece.begin(), piece.end());
    }
    fuzzing::require(place == static_cast<std::int64_t>(text.size()), "the pieces make up the text");
    return ids;
}

// Mostly letters; bytes from 224 on stand for themselves.
std::vector<std::uint8_t> to_letters(Text bytes) {
    std::vector<std::uint8_t> text(bytes.begin(), bytes.end());
    for (std::uint8_t& byte : text) {
        if (byte < 224)
            byte = static_cast<std::uint8_t>(alphabet[byte % alphabet.size()]);
        else if (byte < 232)
            byte = static_cast<std::uint8_t>(" \t\r\n\v\f\x1C-"[byte - 224]);
    }
    text.shrink_to_fit();
    return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzzing::Input input(data, size);
    input.choose_instruction_set();
    const bool is_long = input.byte() == 255;
    const int parts = input.between(2, 9);
    const Parameters parameters = read_parameters(input);
    std::vector<std::uint8_t> text = to_letters(input.rest());
    if (is_long) text = fuzzing::repeated(text, long_text);

    const fastgenome::MergeList list(parameters.bytes, parameters.merges);
    const fastgenome::Bpe encoder(list, unknown);
    const std::vector<std::int32_t> merged = by_heap(parameters, list, text);
    if (!is_long) {
        fuzzing::require(merged == by_definition(parameters, text),
                         "merging with a heap is the definition's");
    }
    fuzzing::require(encoded(encoder, text) == merged, "the ids are the definition's");
    fuzzing::require(encoded_in_pieces(encoder, text, parts) == merged, "pieces have the ids of the whole");
    if (is_long) {
        // Threads cost more than a short text.
        fuzzing::Buffer<std::int32_t> out(static_cast<std::int64_t>(text.size()));
        const std::int64_t count = encoder.encode_parallel(text, out.data(), parts);
        const std::vector<std::int32_t> got(out.data(), out.data() + count);
        fuzzing::require(got == merged, "threads give the ids of one");
    }
    return 0;
}
