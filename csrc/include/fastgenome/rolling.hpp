// k-mer counts of a window that slides over a text.
//
// Contract: the text is clean. Moving the window costs in proportion to the bases that enter and leave it,
// whatever its length; a window that shares no base with the last one is counted anew. The counts are exact:
// those of count_kmers for that window, but that phases count from the beginning of the text. Memory: five
// bytes for each base of the window and each number of phases in use. Moving neither throws nor allocates.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "kmer_codes.hpp"
#include "kmer_counts.hpp"

namespace fastgenome {

// The keys and runs of the places that a window has reached, as many as it can hold.
//
// A place's key is its phase before the code of its eight bases: phase << 16 | code. Shifted like the code it
// is the number of a counter of a table. Where the only table has a map of columns, the key is the column.
class KeyRing {
  public:
    KeyRing(Text text, std::int64_t window, const KmerTable& table)
        : text_(text), phases_(table.phases), mapped_(table.columns.empty() ? nullptr : &table) {
        const auto places = static_cast<std::uint64_t>(window + 2 * code_block_places);
        mask_ = static_cast<std::int64_t>(std::bit_ceil(places)) - 1;
        keys_.resize(static_cast<std::size_t>(mask_) + 1);
        runs_.resize(keys_.size());
        for (std::int64_t i = 0; i < code_block_places + phases_; ++i)
            phase_bits_.push_back(static_cast<std::uint32_t>(i % phases_) << 16);
    }

    // Begins anew at a place; what was there is gone.
    void restart(std::int64_t place) noexcept { reached_ = place / code_block_places * code_block_places; }

    // Makes the places before `end` known.
    void reach(std::int64_t end) noexcept {
        while (reached_ < end) add_block();
    }

    std::int64_t reached() const noexcept { return reached_; }  // the first place that is not known

    // No N that has been reached lies at this place or behind it.
    std::int64_t last_unknown() const noexcept { return last_unknown_; }

    std::uint32_t key(std::int64_t place) const noexcept {
        return keys_[static_cast<std::size_t>(place & mask_)];
    }
    std::uint8_t run(std::int64_t place) const noexcept {
        return runs_[static_cast<std::size_t>(place & mask_)];
    }

  private:
    void add_block() noexcept {
        const auto size = static_cast<std::int64_t>(text_.size());
        const auto slot = static_cast<std::size_t>(reached_ & mask_);
        const std::int64_t places = std::min(code_block_places, size - reached_);
        std::array<std::uint16_t, code_block_places> codes;
        const bool known = code_bases_of(text_, reached_, places, codes.data(), &runs_[slot]);
        if (!known) last_unknown_ = reached_ + places + code_bases;
        std::uint32_t* const keys = &keys_[slot];
        if (mapped_ != nullptr) {
            const int shift = code_shift(mapped_->k);
            const std::uint16_t* const columns = mapped_->columns.data();
            for (std::int64_t i = 0; i < places; ++i) keys[i] = columns[codes[i] >> shift];
        } else {
            const std::uint32_t* const bits = phase_bits_.data() + reached_ % phases_;
            for (std::int64_t i = 0; i < places; ++i) keys[i] = bits[i] | codes[i];
        }
        reached_ += places;
    }

    Text text_;
    std::int64_t phases_;
    const KmerTable* mapped_;
    std::int64_t mask_ = 0;
    std::int64_t reached_ = 0;
    std::int64_t last_unknown_ = -1;
    std::vector<std::uint32_t> keys_;
    std::vector<std::uint8_t> runs_;
    std::vector<std::uint32_t> phase_bits_;  // of places one after the other
};

// The window's counts in all tables of one number of phases.
class RollingGroup {
  public:
    // `first` is one of these tables; the counts of all tables of `tables` begin at `counts`.
    RollingGroup(Text text, std::int64_t window, const KmerTables& tables, const KmerTable& first,
                 std::uint32_t* counts)
        : window_(window), ring_(text, window, first) {
        for (const KmerTable& table : tables.tables()) {
            if (table.phases != first.phases || table.k > window) continue;
            const std::int64_t shift = table.columns.empty() ? code_shift(table.k) : 0;
            places_.push_back({counts + table.begin, table.k, shift});
        }
    }

    // Counts the window at `start` anew; all counts are zero.
    void begin_at(std::int64_t start) noexcept {
        const std::int64_t stop = start + window_;
        ring_.restart(start);
        ring_.reach(stop);
        const bool checked = ring_.last_unknown() >= start;
        for (const Place& place : places_) update<true>(place, start, stop - place.k + 1, checked);
    }

    // Moves the window from `start` on to `next`. No further at once than the ring holds beyond the window.
    void move(std::int64_t start, std::int64_t next) noexcept {
        for (; start < next; start += std::min(next - start, code_block_places)) {
            const std::int64_t begin = std::min(next, start + code_block_places);
            const std::int64_t stop = start + window_;
            ring_.reach(begin + window_);
            const bool checked = ring_.last_unknown() >= start;
            for (const Place& place : places_) {
                update<true>(place, stop - place.k + 1, begin + window_ - place.k + 1, checked);
                update<false>(place, start, begin, checked);
            }
        }
    }

    // Up to which place a window at `start` may move by move_by_one: what it covers is known and has no N.
    std::int64_t clear_until(std::int64_t start) const noexcept {
        return ring_.last_unknown() >= start ? start : ring_.reached() - window_;
    }

    // Moves the window at `start` one base on.
    void move_by_one(std::int64_t start) noexcept {
        const std::uint32_t out = ring_.key(start);
        for (const Place& place : places_) {
            ++place.counts[ring_.key(start + window_ - place.k + 1) >> place.shift];
            --place.counts[out >> place.shift];
        }
    }

  private:
    struct Place {
        std::uint32_t* counts;
        std::int64_t k;
        std::int64_t shift;  // from keys to counters
    };

    // Counts the k-mers that begin in [begin, end) in or out; `checked` where one may hold an N.
    template <bool in>
    void update(const Place& place, std::int64_t begin, std::int64_t end, bool checked) noexcept {
        const std::int64_t shift = place.shift;
        for (std::int64_t i = begin; i < end; ++i) {
            if (checked && ring_.run(i) < place.k) continue;
            place.counts[ring_.key(i) >> shift] += in ? 1U : ~0U;
        }
    }

    std::int64_t window_;
    KeyRing ring_;
    std::vector<Place> places_;
};

class RollingCounts {
  public:
    // `with_bases`: whether bases() is asked for.
    RollingCounts(Text text, std::int64_t window, const KmerTables& tables, bool with_bases)
        : text_(text), window_(window), with_bases_(with_bases), counts_(tables.size()), start_(-window) {
        std::vector<int> known;
        for (const KmerTable& table : tables.tables()) {
            if (std::ranges::find(known, table.phases) != known.end()) continue;
            known.push_back(table.phases);
            groups_.emplace_back(text, window, tables, table, counts_.data());
        }
    }

    RollingCounts(const RollingCounts&) = delete;
    RollingCounts& operator=(const RollingCounts&) = delete;

    // Moves the window to [start, start + window), which must lie in the text and not before the last one.
    void move_to(std::int64_t start) noexcept {
        // The ranges of longer moves take a while to set up.
        constexpr std::int64_t few_bases = 8;
        if (start > clear_until_ || start - start_ > few_bases) return move_far(start);
        for (; start_ < start; ++start_) {
            for (RollingGroup& group : groups_) group.move_by_one(start_);
        }
    }

    const std::uint32_t* counts() const noexcept { return counts_.data(); }
    std::int64_t bases() const noexcept { return bases_; }  // A, C, G and T in the window

  private:
    void move_far(std::int64_t start) noexcept {
        if (start - start_ >= window_) {
            std::ranges::fill(counts_, 0U);
            for (RollingGroup& group : groups_) group.begin_at(start);
            if (with_bases_) bases_ = bases_between(start, start + window_);
        } else {
            for (RollingGroup& group : groups_) group.move(start_, start);
            if (with_bases_)
                bases_ += bases_between(start_ + window_, start + window_) - bases_between(start_, start);
        }
        start_ = start;
        clear_until_ = groups_.empty() ? start : groups_[0].clear_until(start);
        for (const RollingGroup& group : groups_)
            clear_until_ = std::min(clear_until_, group.clear_until(start));
    }

    std::int64_t bases_between(std::int64_t begin, std::int64_t end) const noexcept {
        const Text part =
            text_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
        return end - begin - std::ranges::count(part, std::uint8_t{'N'});
    }

    Text text_;
    std::int64_t window_;
    bool with_bases_;
    std::vector<std::uint32_t> counts_;
    std::vector<RollingGroup> groups_;
    std::int64_t start_;
    std::int64_t clear_until_ = -1;
    std::int64_t bases_ = 0;
};

}  // namespace fastgenome
