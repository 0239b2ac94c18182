// k-mer counts of a window that slides over a text.
//
// Contract: the text is clean. Moving the window costs in proportion to the bases that enter and leave it,
// whatever its length; a window that shares no base with the last one is counted anew. The counts are exact:
// those of count_kmers for that window, but that phases count from the beginning of the text. Memory: three
// bytes for each base of the window. Moving neither throws nor allocates.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "alphabet.hpp"
#include "kmer_codes.hpp"
#include "kmer_counts.hpp"

namespace fastgenome {

// Codes and runs of the places that a window has reached, as many as it can hold.
class CodeRing {
  public:
    CodeRing(Text text, std::int64_t window) : text_(text) {
        const auto places = static_cast<std::uint64_t>(window + 2 * code_block_places);
        mask_ = static_cast<std::int64_t>(std::bit_ceil(places)) - 1;
        codes_.resize(static_cast<std::size_t>(mask_) + 1);
        runs_.resize(codes_.size());
    }

    // Begins anew at a place; what was there is gone.
    void restart(std::int64_t place) noexcept { reached_ = place / code_block_places * code_block_places; }

    // Makes the places before `end` known.
    void reach(std::int64_t end) noexcept {
        const auto size = static_cast<std::int64_t>(text_.size());
        for (; reached_ < end; reached_ += code_block_places) {
            const auto slot = static_cast<std::size_t>(reached_ & mask_);
            code_bases_of(text_, reached_, std::min(code_block_places, size - reached_), &codes_[slot],
                          &runs_[slot]);
        }
    }

    std::uint16_t code(std::int64_t place) const noexcept {
        return codes_[static_cast<std::size_t>(place & mask_)];
    }
    std::uint8_t run(std::int64_t place) const noexcept {
        return runs_[static_cast<std::size_t>(place & mask_)];
    }

  private:
    Text text_;
    std::int64_t mask_ = 0;
    std::int64_t reached_ = 0;
    std::vector<std::uint16_t> codes_;
    std::vector<std::uint8_t> runs_;
};

class RollingCounts {
  public:
    // `with_bases`: whether bases() is asked for.
    RollingCounts(Text text, std::int64_t window, const KmerTables& tables, bool with_bases)
        : window_(window),
          with_bases_(with_bases),
          tables_(tables),
          ring_(text, window),
          counts_(tables.size()) {}

    // Moves the window to [start, start + window), which must lie in the text and not before the last one.
    void move_to(std::int64_t start) noexcept {
        if (!begun_ || start - start_ >= window_) {
            std::ranges::fill(counts_, 0U);
            bases_ = 0;
            begun_ = true;
            ring_.restart(start);
            start_ = start;
            stop_ = start;
            step_to(start);
        }
        // No further at once than the ring holds beyond the window.
        while (start_ < start) step_to(std::min(start, start_ + code_block_places));
    }

    const std::uint32_t* counts() const noexcept { return counts_.data(); }
    std::int64_t bases() const noexcept { return bases_; }  // A, C, G and T in the window

  private:
    // All k-mers in what the old and the new window cover are counted first; then those that begin before the
    // new window go.
    void step_to(std::int64_t start) noexcept {
        const std::int64_t stop = start + window_;
        ring_.reach(stop);
        for (const KmerTable& table : tables_.tables()) {
            const std::int64_t end = stop - table.k + 1;
            update<true>(table, std::max(start_, stop_ - table.k + 1), end);
            update<false>(table, start_, std::min(start, end));
        }
        if (with_bases_) {
            for (std::int64_t i = stop_; i < stop; ++i) bases_ += ring_.run(i) > 0;
            for (std::int64_t i = start_; i < start; ++i) bases_ -= ring_.run(i) > 0;
        }
        start_ = start;
        stop_ = stop;
    }

    // Adds or removes the k-mers that begin in [begin, end).
    template <bool add>
    void update(const KmerTable& table, std::int64_t begin, std::int64_t end) noexcept {
        std::uint32_t* const counts = counts_.data() + table.begin;
        const int shift = code_shift(table.k);
        const std::uint16_t* const columns = table.columns.empty() ? nullptr : table.columns.data();
        const std::size_t size = table.size();
        std::size_t of_phase =
            table.phases == 1 ? 0 : static_cast<std::size_t>(begin % table.phases) * table.width;
        for (std::int64_t i = begin; i < end; ++i) {
            const auto code = static_cast<std::size_t>(ring_.code(i) >> shift);
            const std::size_t column = columns == nullptr ? code : columns[code];
            const std::uint32_t known = ring_.run(i) >= table.k ? 1 : 0;
            counts[of_phase + column] += add ? known : 0U - known;
            of_phase += table.width;
            if (of_phase == size) of_phase = 0;
        }
    }

    std::int64_t window_;
    bool with_bases_;
    const KmerTables& tables_;
    CodeRing ring_;
    std::vector<std::uint32_t> counts_;
    std::int64_t start_ = 0;
    std::int64_t stop_ = 0;
    std::int64_t bases_ = 0;
    bool begun_ = false;
};

}  // namespace fastgenome
