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
            const std::int64_t places = std::min(code_block_places, size - reached_);
            const bool known = code_bases_of(text_, reached_, places, &codes_[slot], &runs_[slot]);
            if (!known) last_unknown_ = reached_ + places + code_bases;
        }
    }

    std::int64_t reached() const noexcept { return reached_; }  // the first place that is not known

    // No N that has been reached lies at this place or behind it.
    std::int64_t last_unknown() const noexcept { return last_unknown_; }

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
    std::int64_t last_unknown_ = -1;
    std::vector<std::uint16_t> codes_;
    std::vector<std::uint8_t> runs_;
};

class RollingCounts {
  public:
    // `with_bases`: whether bases() is asked for.
    RollingCounts(Text text, std::int64_t window, const KmerTables& tables, bool with_bases)
        : window_(window), with_bases_(with_bases), ring_(text, window), counts_(tables.size()) {
        for (const KmerTable& table : tables.tables()) {
            if (table.k > window) continue;
            const std::uint16_t* const columns = table.columns.empty() ? nullptr : table.columns.data();
            places_.push_back({counts_.data() + table.begin, columns, 0, 0, table.width, table.size(),
                               table.k, code_shift(table.k)});
        }
    }

    RollingCounts(const RollingCounts&) = delete;
    RollingCounts& operator=(const RollingCounts&) = delete;

    // Moves the window to [start, start + window), which must lie in the text and not before the last one.
    void move_to(std::int64_t start) noexcept {
        if (!begun_ || start - start_ >= window_) begin_at(start);
        while (start_ < start) {
            const bool known = ring_.last_unknown() < start_ && ring_.reached() > stop_;
            if (known && start - start_ <= few_bases) {
                step_by_one();
            } else {
                // No further at once than the ring holds beyond the window.
                step_to(std::min(start, start_ + code_block_places));
            }
        }
    }

    const std::uint32_t* counts() const noexcept { return counts_.data(); }
    std::int64_t bases() const noexcept { return bases_; }  // A, C, G and T in the window

  private:
    // Up to here a window moves base by base, for the ranges of longer moves take a while to set up.
    static constexpr std::int64_t few_bases = 8;

    // A table, and where the phase of its next k-mer to come in, and to go out, begins among its counters. No
    // field has the type of the counters, so that counting changes none of them.
    struct Place {
        std::uint32_t* counts;
        const std::uint16_t* columns;  // of codes, or nullptr
        std::size_t in;
        std::size_t out;
        std::size_t width;  // counters of a phase
        std::size_t size;   // of all phases
        std::int64_t k;
        std::int64_t shift;  // of codes of eight bases

        std::size_t following(std::size_t phase) const noexcept {
            return phase + width == size ? 0 : phase + width;
        }
    };

    void begin_at(std::int64_t start) noexcept {
        std::ranges::fill(counts_, 0U);
        begun_ = true;
        ring_.restart(start);
        for (Place& place : places_) {
            const auto phases = static_cast<std::int64_t>(place.size / place.width);
            place.in = static_cast<std::size_t>(start % phases) * place.width;
            place.out = place.in;
        }
        const std::int64_t stop = start + window_;
        ring_.reach(stop);
        const bool checked = ring_.last_unknown() >= start;
        for (Place& place : places_) update<true>(place, start, stop - place.k + 1, checked);
        if (with_bases_) bases_ = bases_between(start, stop);
        start_ = start;
        stop_ = stop;
    }

    // One base on, in reach of the ring, where no N is near.
    void step_by_one() noexcept {
        for (Place& place : places_) {
            std::size_t in = ring_.code(stop_ - place.k + 1) >> place.shift;
            std::size_t out = ring_.code(start_) >> place.shift;
            if (place.columns != nullptr) {
                in = place.columns[in];
                out = place.columns[out];
            }
            ++place.counts[place.in + in];
            --place.counts[place.out + out];
            place.in = place.following(place.in);
            place.out = place.following(place.out);
        }
        ++start_;
        ++stop_;
    }

    void step_to(std::int64_t start) noexcept {
        const std::int64_t stop = start + window_;
        ring_.reach(stop);
        const bool checked = ring_.last_unknown() >= start_;
        for (Place& place : places_) {
            update<true>(place, stop_ - place.k + 1, stop - place.k + 1, checked);
            update<false>(place, start_, start, checked);
        }
        if (with_bases_) bases_ += bases_between(stop_, stop) - bases_between(start_, start);
        start_ = start;
        stop_ = stop;
    }

    // Counts the k-mers that begin in [begin, end) in or out; `checked` where one may hold an N.
    template <bool in>
    void update(Place& place, std::int64_t begin, std::int64_t end, bool checked) noexcept {
        if (place.columns == nullptr && !checked) {
            count<in, false, false>(place, begin, end);
        } else if (place.columns == nullptr) {
            count<in, false, true>(place, begin, end);
        } else {
            count<in, true, true>(place, begin, end);
        }
    }

    template <bool in, bool mapped, bool checked>
    void count(Place& place, std::int64_t begin, std::int64_t end) const noexcept {
        std::size_t of_phase = in ? place.in : place.out;
        for (std::int64_t i = begin; i < end; ++i) {
            std::size_t column = ring_.code(i) >> place.shift;
            if constexpr (mapped) column = place.columns[column];
            const std::uint32_t known = !checked || ring_.run(i) >= place.k ? 1 : 0;
            place.counts[of_phase + column] += in ? known : 0U - known;
            of_phase = place.following(of_phase);
        }
        (in ? place.in : place.out) = of_phase;
    }

    std::int64_t bases_between(std::int64_t begin, std::int64_t end) const noexcept {
        std::int64_t bases = 0;
        for (std::int64_t i = begin; i < end; ++i) bases += ring_.run(i) > 0;
        return bases;
    }

    std::int64_t window_;
    bool with_bases_;
    CodeRing ring_;
    std::vector<std::uint32_t> counts_;
    std::vector<Place> places_;
    std::int64_t start_ = 0;
    std::int64_t stop_ = 0;
    std::int64_t bases_ = 0;
    bool begun_ = false;
};

}  // namespace fastgenome
