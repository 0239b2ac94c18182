// Sizes around 2^31 and 2^32, where a coordinate of too few bits would show: bounds, windows and shares of
// texts that nobody has to hold in memory. Run by tests/threads/run.sh with the undefined-behaviour
// sanitizer.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "fastgenome/batch.hpp"
#include "fastgenome/block_kmers.hpp"
#include "fastgenome/bpe.hpp"
#include "fastgenome/character.hpp"
#include "fastgenome/parallel.hpp"
#include "fastgenome/sliding_kmers.hpp"
#include "fastgenome/window_rows.hpp"

namespace {

using fastgenome::Range;
using Wide = __int128;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

std::vector<std::int64_t> sizes() {
    std::vector<std::int64_t> made;
    for (const int bits : {31, 32, 33, 40}) {
        for (std::int64_t around = -9; around <= 9; ++around)
            made.push_back((std::int64_t{1} << bits) + around);
    }
    return made;
}

// Whether `count` windows, and not one more, fit into `size`.
bool all_fit(std::int64_t count, std::int64_t size, std::int64_t length, std::int64_t stride) {
    const auto end = [&](std::int64_t window) { return static_cast<Wide>(window) * stride + length; };
    return (count == 0 || end(count - 1) <= size) && end(count) > size;
}

std::array<std::int32_t, 256> byte_ids() {
    std::array<std::int32_t, 256> ids{};
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
}

fastgenome::SlidingKmers sliding_kmers(int k, std::int64_t stride) {
    std::vector<std::int32_t> ids(std::size_t{1} << (2 * k));
    std::iota(ids.begin(), ids.end(), 5);
    return {k, stride, "ACGT", ids, 1};
}

void bounds_of_encoders() {
    const fastgenome::Characters characters(byte_ids());
    const fastgenome::BlockKmers blocks(2, "ACGT", std::vector<std::int32_t>(16, 7), 0, byte_ids());
    const fastgenome::Bpe bpe(fastgenome::MergeList(byte_ids(), std::vector<fastgenome::Merge>{}), 9);
    for (const std::int64_t size : sizes()) {
        require(characters.bound(size) == size, "one id per character");
        require(blocks.bound(size) >= size, "blocks of one character");
        require(bpe.bound(size) >= size, "merges of nothing");
        for (const int k : {1, 3, 6, 8}) {
            for (const std::int64_t stride : {std::int64_t{1}, std::int64_t{6}, size / 3, size}) {
                const std::int64_t bound = sliding_kmers(k, stride).bound(size);
                require(all_fit(bound, size, k, stride), "all k-mers fit, and not one more");
            }
        }
    }
}

void bounds_of_sequences() {
    const fastgenome::SlidingKmers encoder = sliding_kmers(6, 1);
    const fastgenome::Literals literals({{"[CLS]", 2}});
    const std::vector<std::int32_t> around = {2, 3, 4};
    for (const std::int64_t size : sizes()) {
        for (const bool clean : {true, false}) {
            fastgenome::BatchLayout layout{
                .prefix = around, .suffix = around, .literals = nullptr, .clean = clean, .threads = 1};
            require(sequence_bound(encoder, size, layout) == size - 5 + 6, "k-mers and special tokens");
            layout.literals = &literals;
            const std::int64_t most = clean ? size - 5 + 6 : size + 6;
            require(sequence_bound(encoder, size, layout) == most, "literals stand for themselves");
        }
    }
}

void windows() {
    for (const std::int64_t size : sizes()) {
        const std::int64_t largest = std::numeric_limits<std::int32_t>::max();
        for (const std::int64_t length : {std::int64_t{1}, std::int64_t{1000}, largest}) {
            for (const std::int64_t stride : {std::int64_t{1}, std::int64_t{7}, largest, largest + 2, size}) {
                const fastgenome::Windows made{length, stride};
                require(
                    size < length ? made.count(size) == 0 : all_fit(made.count(size), size, length, stride),
                    "all windows fit, and not one more");
            }
        }
    }
}

// Ranges that follow one another from 0 to `size`, none empty.
void require_whole(std::span<const Range> ranges, std::int64_t size) {
    std::int64_t place = 0;
    for (const Range range : ranges) {
        require(range.begin == place && range.end > range.begin, "a range begins where the last one ends");
        place = range.end;
    }
    require(place == size, "ranges make up the whole");
}

void shares() {
    for (const std::int64_t size : sizes()) {
        for (const int parts : {1, 2, 3, 7, 64}) {
            const std::vector<Range> even = fastgenome::split_evenly(size, parts);
            require_whole(even, size);
            require(even.size() == static_cast<std::size_t>(parts), "as many shares as asked for");
            for (const Range range : even) {
                const std::int64_t length = range.end - range.begin;
                require(length == size / parts || length == size / parts + 1, "shares are equal");
            }
        }
    }
}

void shares_by_weight() {
    for (const std::int64_t size : sizes()) {
        for (const int threads : {1, 2, 5, 16}) {
            // Many texts of such a size, up to sums of about 2^60 for the largest of them.
            const std::vector<std::int64_t> weights(1000, size << 9);
            const std::vector<Range> ranges = fastgenome::split_by_weight(weights, threads);
            require_whole(ranges, 1000);
            require(ranges.size() == static_cast<std::size_t>(threads), "a share for each thread");
            for (const Range range : ranges) {
                const std::int64_t texts = range.end - range.begin;
                require(std::abs(texts - 1000 / threads) <= 1, "shares are equal");
            }
            const std::vector<std::int64_t> one = {size};
            require_whole(fastgenome::split_by_weight(one, threads), 1);
        }
        require(fastgenome::threads_for(size, 3) == 3, "as many threads as asked for");
        require(fastgenome::threads_for(size, 0) ==
                    std::min<std::int64_t>(fastgenome::default_threads(), size >> 19),
                "such a text deserves all threads");
    }
}

// Texts that outweigh a thread's share stand alone, for all threads; the others are shared out.
void shares_of_heavy_texts() {
    for (const std::int64_t size : sizes()) {
        for (const int threads : {1, 2, 5, 16}) {
            const std::vector<std::int64_t> alike(1000, size << 9);
            const auto ranges = fastgenome::share_out(alike, threads);
            require(ranges.size() == static_cast<std::size_t>(threads), "enough texts for all threads");
            for (const auto& share : ranges) require(share.parts == 1, "none of many alike is heavy");
        }
        const std::vector<std::int64_t> weights = {10, size, 20, 5, size};
        const auto shares = fastgenome::share_out(weights, 4);
        std::int64_t place = 0;
        for (const auto& share : shares) {
            require(share.range.begin == place, "a share begins where the last one ends");
            place = share.range.end;
            for (std::int64_t text = share.range.begin; text < place; ++text) {
                const bool is_heavy = weights[static_cast<std::size_t>(text)] == size;
                require(share.parts == (is_heavy ? 4 : 1), "the heavy texts are cut, and no other");
                require(!is_heavy || share.range.end == share.range.begin + 1, "a heavy text stands alone");
            }
        }
        require(place == 5, "the shares make up the whole");
    }
}

}  // namespace

int main() {
    bounds_of_encoders();
    bounds_of_sequences();
    windows();
    shares();
    shares_by_weight();
    shares_of_heavy_texts();
    std::printf("sizes around 2^31 and 2^32: passed\n");
}
