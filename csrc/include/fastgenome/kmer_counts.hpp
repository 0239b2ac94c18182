// Tables of k-mer counts, one counter per phase and column, and the counting of whole texts into them.
//
// Contract: texts are clean; a k-mer that holds an N is not counted. The phase of a k-mer is the place of its
// first base, from 0, modulo the table's phases; its column is its code (kmer_codes.hpp) or what a map makes
// of the code. Counting neither throws nor allocates. A counter of 32 bits serves texts of less than 2^32
// bases.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "alphabet.hpp"
#include "instruction_sets.hpp"
#include "kmer_codes.hpp"
#include "triple_counts.hpp"

namespace fastgenome {

inline constexpr int maximum_counted_k = code_bases;
inline constexpr int maximum_phases = 1024;

struct KmerTable {
    int k = 1;
    int phases = 1;
    std::size_t width = 4;                 // columns of one phase
    std::size_t begin = 0;                 // of the first counter, in all tables' counters
    int source = -1;                       // the table whose counts hold most of this one's, or -1
    std::vector<std::uint16_t> columns{};  // column of each code; empty where a column is the code

    std::size_t size() const noexcept { return width * static_cast<std::size_t>(phases); }
};

// Tables whose counters lie one behind the other.
class KmerTables {
  public:
    // Adds a table of all 4^k columns. A table of the same phases and a higher k saves its counting: each of
    // the k-mers begins one of those, but for the last few before an N or the end.
    void add(int k, int phases) {
        if (phases < 1 || phases > maximum_phases)
            throw std::invalid_argument("phases must lie between 1 and 1024");
        push({k, phases, checked_width(k), size_});
        for (KmerTable& table : tables_) table.source = source_of(table);
        order_.clear();
        for (std::size_t i = 0; i < tables_.size(); ++i) order_.push_back(i);
        std::ranges::stable_sort(order_, [this](std::size_t left, std::size_t right) {
            return tables_[left].k > tables_[right].k;
        });
    }

    // A single table of one phase whose columns are a map of the codes.
    static KmerTables mapped(int k, std::vector<std::uint16_t> columns, std::size_t width) {
        if (columns.size() != checked_width(k)) throw std::invalid_argument("columns must have 4^k entries");
        if (std::ranges::any_of(columns, [width](std::size_t column) { return column >= width; }))
            throw std::invalid_argument("a column lies outside of the width");
        KmerTables tables;
        tables.push({k, 1, width, 0, -1, std::move(columns)});
        tables.order_ = {0};
        return tables;
    }

    std::size_t size() const noexcept { return size_; }  // counters of all tables
    std::span<const KmerTable> tables() const noexcept { return tables_; }
    std::span<const std::size_t> by_falling_k() const noexcept { return order_; }

  private:
    static std::size_t checked_width(int k) {
        if (k < 1 || k > maximum_counted_k) throw std::invalid_argument("k must lie between 1 and 8");
        return std::size_t{1} << (2 * k);
    }

    void push(KmerTable table) {
        size_ += table.size();
        tables_.push_back(std::move(table));
    }

    int source_of(const KmerTable& table) const noexcept {
        int best = -1;
        for (std::size_t i = 0; i < tables_.size(); ++i) {
            const KmerTable& other = tables_[i];
            const bool nearer = best < 0 || other.k < tables_[static_cast<std::size_t>(best)].k;
            if (other.phases == table.phases && other.k > table.k && nearer) best = static_cast<int>(i);
        }
        return best;
    }

    std::vector<KmerTable> tables_;
    std::vector<std::size_t> order_;
    std::size_t size_ = 0;
};

namespace detail {

// Counts columns whose phases follow each other. The phases' tables are counted side by side: two additions
// to one counter would have to wait for each other.
template <int phases, typename Counter>
void count_phases(const std::uint16_t* columns, std::int64_t size,
                  const std::array<std::size_t, phases>& of_phase, Counter* counts) noexcept {
    std::int64_t i = 0;
    for (; i + phases <= size; i += phases) {
        for (int p = 0; p < phases; ++p) ++counts[of_phase[p] + columns[i + p]];
    }
    for (int p = 0; i < size; ++i, ++p) ++counts[of_phase[p] + columns[i]];
}

template <typename Counter>
void count_columns(const std::uint16_t* columns, std::int64_t size, std::int64_t first_phase,
                   const KmerTable& table, Counter* counts) noexcept {
    const std::int64_t phases = table.phases;
    const std::size_t width = table.width;
    if (phases == 1) return count_phases<1>(columns, size, {0}, counts);
    const auto begin_of = [=](std::int64_t i) {
        return static_cast<std::size_t>((first_phase + i) % phases) * width;
    };
    if (phases == 3) return count_phases<3>(columns, size, {begin_of(0), begin_of(1), begin_of(2)}, counts);
    for (std::int64_t first = 0; first < std::min(phases, size); ++first) {
        Counter* const of_phase = counts + begin_of(first);
        for (std::int64_t i = first; i < size; i += phases) ++of_phase[columns[i]];
    }
}

// Counts a few k-mers, for which the coder of blocks is too much: those that begin in text[begin, end).
template <typename Counter>
void count_few(const std::uint8_t* text, std::int64_t begin, std::int64_t end, const KmerTable& table,
               Counter* counts) noexcept {
    for (std::int64_t start = begin; start < end; ++start) {
        std::size_t code = 0;
        for (int i = 0; i < table.k; ++i) {
            const int bits = (text[start + i] >> 1) & 3;
            code = code << 2 | static_cast<std::size_t>(bits ^ (bits >> 1));
        }
        const std::size_t column = table.columns.empty() ? code : table.columns[code];
        const std::int64_t phase = table.phases == 1 ? 0 : start % table.phases;
        ++counts[static_cast<std::size_t>(phase) * table.width + column];
    }
}

// Whether sums over longer k-mers beat an increment for each place.
inline bool pays_in_triples(const KmerTable& table, std::int64_t places) noexcept {
    const bool fits = table.columns.empty() && table.k <= maximum_triple_k;
    return fits && (table.phases == 1 || table.phases == 3) && places >= std::int64_t{1} << (2 * table.k);
}

// Counts most of the k-mers that begin in text[begin, end); returns the first place that is left.
template <typename Counter>
std::int64_t count_in_triples(const std::uint8_t* text, std::int64_t begin, std::int64_t end,
                              const KmerTable& table, Counter* counts) noexcept {
    const auto of_phase = [&table, counts](std::int64_t place) {
        return counts + static_cast<std::size_t>(place % table.phases) * table.width;
    };
    switch (table.k) {
        case 1:
            return count_triples<1>(text, begin, end, of_phase);
        case 2:
            return count_triples<2>(text, begin, end, of_phase);
        case 3:
            return count_triples<3>(text, begin, end, of_phase);
        default:
            return count_triples<4>(text, begin, end, of_phase);
    }
}

// Counts the k-mers that begin in text[begin, end), all of bases alone; text[end + k - 1) must exist.
template <typename Counter>
void count_range(const std::uint8_t* text, std::int64_t begin, std::int64_t end, const KmerTable& table,
                 Counter* counts) noexcept {
    if (pays_in_triples(table, end - begin)) begin = count_in_triples(text, begin, end, table, counts);
    if (end - begin < code_bases) return count_few(text, begin, end, table, counts);
    std::array<std::uint16_t, code_block_places> codes;
    for (std::int64_t start = begin; start < end; start += code_block_places) {
        const std::int64_t places = std::min(code_block_places, end - start);
        const std::int64_t present = end + table.k - 1 - start;
        dispatch<CodeBases>(text + start, places, present, code_shift(table.k), codes.data());
        if (!table.columns.empty()) {
            const std::uint16_t* const columns = table.columns.data();
            for (std::int64_t i = 0; i < places; ++i) codes[i] = columns[codes[i]];
        }
        count_columns(codes.data(), places, start, table, counts);
    }
}

// Adds to each counter those of the k-mers of the next higher table that begin with its k-mer.
struct AddMarginals {
    template <typename Counter>
    static void run(const Counter* source, std::int64_t groups, int group_size, Counter* counts) noexcept {
        if (group_size == 4) {
            for (std::int64_t i = 0; i < groups; ++i)
                counts[i] += source[4 * i] + source[4 * i + 1] + source[4 * i + 2] + source[4 * i + 3];
            return;
        }
        for (std::int64_t i = 0; i < groups; ++i) {
            for (int j = 0; j < group_size; ++j) counts[i] += source[i * group_size + j];
        }
    }
};

struct SumCounts {
    template <typename Counter>
    static Counter run(const Counter* counts, std::int64_t size) noexcept {
        Counter total = 0;
        for (std::int64_t i = 0; i < size; ++i) total += counts[i];
        return total;
    }
};

template <typename Counter>
void count_run(const std::uint8_t* text, std::int64_t begin, std::int64_t end, const KmerTables& tables,
               Counter* counts) noexcept {
    for (const KmerTable& table : tables.tables()) {
        std::int64_t first = begin;
        if (table.source >= 0) {
            const int source_k = tables.tables()[static_cast<std::size_t>(table.source)].k;
            first = std::max(begin, end - source_k + 1);
        }
        count_range(text, first, end - table.k + 1, table, counts + table.begin);
    }
}

}  // namespace detail

// Sets `counts`, of tables.size() entries, to the counts of `text`.
template <typename Counter>
void count_kmers(Text text, const KmerTables& tables, Counter* counts) noexcept {
    std::fill_n(counts, tables.size(), Counter{0});
    const auto size = static_cast<std::int64_t>(text.size());
    for (std::int64_t begin = 0; begin < size;) {
        const void* unknown = std::memchr(text.data() + begin, 'N', static_cast<std::size_t>(size - begin));
        const std::int64_t end =
            unknown == nullptr ? size : static_cast<const std::uint8_t*>(unknown) - text.data();
        if (end > begin) detail::count_run(text.data(), begin, end, tables, counts);
        begin = end + 1;
    }
    for (const std::size_t i : tables.by_falling_k()) {
        const KmerTable& table = tables.tables()[i];
        if (table.source < 0) continue;
        const KmerTable& source = tables.tables()[static_cast<std::size_t>(table.source)];
        dispatch<detail::AddMarginals>(static_cast<const Counter*>(counts + source.begin),
                                       static_cast<std::int64_t>(table.size()),
                                       1 << (2 * (source.k - table.k)), counts + table.begin);
    }
}

}  // namespace fastgenome
