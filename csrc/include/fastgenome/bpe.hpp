// The byte-pair tokenizer: pieces of text between white space and unknown characters, each encoded exactly.
//
// Contract: a character without a token is one `unknown` and a hard break; white space is a break without a
// token. A piece is encoded by the automaton of the merge list (bpe_automaton.hpp), which is made when the
// first text is prepared; a list too large for it goes by merging in the order of the ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "bpe_merges.hpp"
#include "bpe_shared.hpp"
#include "bpe_split.hpp"
#include "bpe_walk.hpp"
#include "parallel.hpp"

namespace fastgenome {

class Bpe {
  public:
    struct Scratch {
        const BpeAutomaton* automaton = nullptr;
        BpeWalk::Scratch walk;
        MergeScratch merges;
    };

    Bpe(MergeList list, std::int32_t unknown) : shared_(SharedBpe::of(std::move(list))), unknown_(unknown) {}

    // Whether texts are encoded by the table of an automaton; makes it.
    bool uses_table() const { return shared_->automaton() != nullptr; }

    // Whether it has been made already.
    bool is_made() const noexcept { return shared_->is_made(); }

    std::int64_t bound(std::int64_t length) const noexcept { return length; }

    void prepare(Scratch& scratch, std::int64_t length) const {
        scratch.automaton = shared_->automaton();
        if (scratch.automaton != nullptr) {
            scratch.walk.prepare(*scratch.automaton, length);
        } else {
            scratch.merges.prepare(length);
        }
    }

    // Writes the ids, at most text.size(), and returns how many. All ids must fit into Id.
    template <typename Id>
    std::int64_t encode(Text text, Id* out, Scratch& scratch) const noexcept {
        return scratch.automaton != nullptr ? encode_by_automaton(text, out, scratch)
                                            : encode_by_rank(text, out, scratch);
    }

    // Cuts a text where a token begins in any case: the ids of the pieces, one behind the other, are those of
    // the text. At most `parts` pieces of about equal length; fewer where no such place is found.
    std::vector<Range> split(Text text, std::int64_t parts) const {
        const BpeAutomaton* const automaton = shared_->automaton();
        if (automaton == nullptr) return {{0, static_cast<std::int64_t>(text.size())}};
        return BpeSplit(*automaton).split(text, parts);
    }

    // As `encode`, on as many threads as there are parts. `out` must hold text.size() ids.
    template <typename Id>
    std::int64_t encode_parallel(Text text, Id* out, std::int64_t parts) const {
        const std::vector<Range> ranges = split(text, parts);
        std::vector<std::int64_t> counts(ranges.size());
        run_parallel(ranges, [&](Range range, std::size_t r) {
            Scratch scratch;
            prepare(scratch, range.end - range.begin);
            const Text piece = text.subspan(static_cast<std::size_t>(range.begin),
                                            static_cast<std::size_t>(range.end - range.begin));
            counts[r] = encode(piece, out + range.begin, scratch);
        });
        Id* end = out;
        for (std::size_t r = 0; r < ranges.size(); ++r) {
            end = std::copy_n(out + ranges[r].begin, counts[r], end);
        }
        return end - out;
    }

  private:
    // Unicode's White_Space within Latin-1: unlike is_space, without the four separators.
    static constexpr bool is_break(std::uint8_t byte) noexcept {
        return is_space(byte) && !(byte >= 0x1C && byte <= 0x1F);
    }

    // Writes what stands for one byte that is not part of a piece.
    template <typename Id>
    Id* write_single(std::uint8_t byte, Id* out) const noexcept {
        if (const std::int32_t id = shared_->list().byte_token(byte); id >= 0) {
            *out++ = static_cast<Id>(id);
        } else if (!is_break(byte)) {
            *out++ = static_cast<Id>(unknown_);
        }
        return out;
    }

    template <typename Id>
    std::int64_t encode_by_automaton(Text text, Id* out, Scratch& scratch) const noexcept {
        BpeWalk walk(*scratch.automaton, scratch.walk);
        const auto single = [this](std::uint8_t byte, Id* end) noexcept { return write_single(byte, end); };
        return walk.encode(text, out, single) - out;
    }

    template <typename Id>
    std::int64_t encode_by_rank(Text text, Id* out, Scratch& scratch) const noexcept {
        const MergeList& list = shared_->list();
        Id* end = out;
        for (std::size_t position = 0; position < text.size();) {
            const std::size_t begin = position;
            while (position < text.size() && list.byte_token(text[position]) >= 0) ++position;
            if (position > begin) {
                end += merge_by_rank(list, text.subspan(begin, position - begin), end, scratch.merges);
            } else {
                end = write_single(text[position++], end);
            }
        }
        return end - out;
    }

    std::shared_ptr<const SharedBpe> shared_;
    std::int32_t unknown_;
};

}  // namespace fastgenome
