// k-mer counts of a window that slides over a text.
//
// Contract: the text is clean. Moving the window costs in proportion to the bases that enter and leave it,
// whatever its length; a window that shares no base with the last one is counted anew. The counts are exact:
// those of count_kmers for that window, but that phases count from the beginning of the text. Memory: for
// each base of the window one byte, and four for each table. Moving neither throws nor allocates.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "kmer_codes.hpp"
#include "kmer_counts.hpp"

namespace fastgenome {

namespace detail {

struct NumberCounters {
    static void run(const std::uint16_t* codes, std::int64_t places, int shift, const std::uint32_t* begins,
                    std::uint32_t* numbers) noexcept {
        for (std::int64_t i = 0; i < places; ++i)
            numbers[i] = begins[i] + (static_cast<std::uint32_t>(codes[i]) >> shift);
    }
};

}  // namespace detail

// For the places that a window has reached, as many as it can hold: the numbers of the counters, one of each
// table, of the k-mers that begin there; and their runs.
class CounterRing {
  public:
    CounterRing(Text text, std::int64_t window, const KmerTables& tables) : text_(text) {
        const auto places = static_cast<std::uint64_t>(window + 2 * code_block_places);
        mask_ = static_cast<std::int64_t>(std::bit_ceil(places)) - 1;
        const auto size = static_cast<std::size_t>(mask_) + 1;
        runs_.resize(size);
        for (const KmerTable& table : tables.tables()) {
            if (table.k > window) continue;
            tables_.push_back({&table, {}, std::vector<std::uint32_t>(size)});
            for (std::int64_t i = 0; i < code_block_places + table.phases; ++i) {
                const auto phase = static_cast<std::size_t>(i % table.phases);
                tables_.back().begins.push_back(
                    static_cast<std::uint32_t>(table.begin + phase * table.width));
            }
        }
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

    // Where, in what numbers() and runs() point to, a place is.
    std::size_t slot(std::int64_t place) const noexcept { return static_cast<std::size_t>(place & mask_); }

    std::size_t tables() const noexcept { return tables_.size(); }  // those whose k-mers fit into the window
    int k(std::size_t table) const noexcept { return tables_[table].table->k; }
    const std::uint32_t* numbers(std::size_t table) const noexcept { return tables_[table].numbers.data(); }
    const std::uint8_t* runs() const noexcept { return runs_.data(); }

  private:
    struct Table {
        const KmerTable* table;
        std::vector<std::uint32_t>
            begins;  // the first counters of the phases of places that follow each other
        std::vector<std::uint32_t> numbers;
    };

    void add_block() noexcept {
        const auto size = static_cast<std::int64_t>(text_.size());
        const std::int64_t places = std::min(code_block_places, size - reached_);
        std::array<std::uint16_t, code_block_places> codes;
        const bool known = code_bases_of(text_, reached_, places, codes.data(), &runs_[slot(reached_)]);
        if (!known) last_unknown_ = reached_ + places + code_bases;
        for (Table& entry : tables_) {
            const KmerTable& table = *entry.table;
            std::uint32_t* const numbers = &entry.numbers[slot(reached_)];
            const std::uint32_t* const begins = entry.begins.data() + reached_ % table.phases;
            if (table.columns.empty()) {
                dispatch<detail::NumberCounters>(static_cast<const std::uint16_t*>(codes.data()), places,
                                                 code_shift(table.k), begins, numbers);
            } else {
                const std::uint16_t* const columns = table.columns.data();
                for (std::int64_t i = 0; i < places; ++i)
                    numbers[i] = begins[i] + columns[codes[i] >> code_shift(table.k)];
            }
        }
        reached_ += places;
    }

    Text text_;
    std::int64_t mask_ = 0;
    std::int64_t reached_ = 0;
    std::int64_t last_unknown_ = -1;
    std::vector<std::uint8_t> runs_;
    std::vector<Table> tables_;
};

class RollingCounts {
  public:
    // `with_bases`: whether bases() is asked for. `tables` must outlive this.
    RollingCounts(Text text, std::int64_t window, const KmerTables& tables, bool with_bases)
        : text_(text),
          window_(window),
          with_bases_(with_bases),
          counts_(tables.size()),
          ring_(text, window, tables),
          start_(-window) {
        for (std::size_t table = 0; table < ring_.tables(); ++table)
            steps_.push_back({ring_.numbers(table), window - ring_.k(table) + 1});
    }

    RollingCounts(const RollingCounts&) = delete;
    RollingCounts& operator=(const RollingCounts&) = delete;

    // Moves the window to [start, start + window), which must lie in the text and not before the last one.
    // Part of its caller's loop, as a call costs more than a move by one base.
    [[gnu::always_inline]] void move_to(std::int64_t start) noexcept {
        // The ranges of longer moves take a while to set up.
        constexpr std::int64_t few_bases = 8;
        if (start > clear_until_ || start - start_ > few_bases) return move_far(start);
        // start_ is not counted up: a step would wait for the number that the last one has stored.
        for (std::int64_t from = start_; from < start; ++from) move_by_one(from);
        start_ = start;
    }

    const std::uint32_t* counts() const noexcept { return counts_.data(); }
    std::int64_t bases() const noexcept { return bases_; }  // A, C, G and T in the window

  private:
    // What one table needs for a move by one base.
    struct Step {
        const std::uint32_t* numbers;
        std::int64_t entering;  // from the window's begin to the k-mer that enters
    };

    void move_by_one(std::int64_t from) noexcept {
        // With their number known the tables' updates run side by side.
        switch (steps_.size()) {
            case 1:
                return step<1>(from);
            case 2:
                return step<2>(from);
            case 3:
                return step<3>(from);
            default:
                return step<0>(from);
        }
    }

    // `size` is the number of tables, or 0 where it is known only now.
    template <std::size_t size>
    void step(std::int64_t from) noexcept {
        std::uint32_t* const counts = counts_.data();
        const std::size_t leaving = ring_.slot(from);
        const auto update = [&](const Step& table) {
            ++counts[table.numbers[ring_.slot(from + table.entering)]];
            --counts[table.numbers[leaving]];
        };
        if constexpr (size == 0) {
            for (const Step& table : steps_) update(table);
        } else {
            const Step* const steps = steps_.data();
            [&]<std::size_t... i>(std::index_sequence<i...>) {
                (update(steps[i]), ...);
            }(std::make_index_sequence<size>());
        }
    }

    [[gnu::noinline]] void move_far(std::int64_t start) noexcept {
        if (start - start_ >= window_) {
            count_anew(start);
            if (with_bases_) bases_ = bases_between(start, start + window_);
        } else {
            if (with_bases_)
                bases_ += bases_between(start_ + window_, start + window_) - bases_between(start_, start);
            // No further at once than the ring holds beyond the window.
            while (start_ < start) move_by(std::min(start - start_, code_block_places));
        }
        start_ = start;
        clear_until_ = ring_.last_unknown() >= start ? start : ring_.reached() - window_;
    }

    void count_anew(std::int64_t start) noexcept {
        std::ranges::fill(counts_, 0U);
        ring_.restart(start);
        ring_.reach(start + window_);
        for (std::size_t table = 0; table < ring_.tables(); ++table)
            update<true>(table, start, start + window_ - ring_.k(table) + 1, start);
    }

    void move_by(std::int64_t bases) noexcept {
        const std::int64_t stop = start_ + window_;
        ring_.reach(stop + bases);
        for (std::size_t table = 0; table < ring_.tables(); ++table) {
            const std::int64_t first = stop - ring_.k(table) + 1;
            update<true>(table, first, first + bases, start_);
            update<false>(table, start_, start_ + bases, start_);
        }
        start_ += bases;
    }

    // Counts a table's k-mers that begin in [begin, end) in or out; none begins before `window_start`.
    template <bool in>
    void update(std::size_t table, std::int64_t begin, std::int64_t end, std::int64_t window_start) noexcept {
        const std::uint32_t* const numbers = ring_.numbers(table);
        const std::uint8_t* const runs = ring_.runs();
        const int k = ring_.k(table);
        const bool checked = ring_.last_unknown() >= window_start;
        for (std::int64_t i = begin; i < end; ++i) {
            const std::size_t slot = ring_.slot(i);
            if (checked && runs[slot] < k) continue;
            counts_[numbers[slot]] += in ? 1U : ~0U;
        }
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
    CounterRing ring_;
    std::vector<Step> steps_;
    std::int64_t start_;
    std::int64_t clear_until_ = -1;
    std::int64_t bases_ = 0;
};

}  // namespace fastgenome
