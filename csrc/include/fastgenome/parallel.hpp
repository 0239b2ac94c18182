// Work over many items, cut by weight into as many contiguous ranges as there are threads.
//
// Contract: the work is done when a call returns, also when it throws. Small work runs on the calling thread
// alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <span>
#include <thread>
#include <vector>

#include "thread_pool.hpp"

namespace fastgenome {

struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

// Below this weight per thread (characters, 0.3 ms of work at the least) a thread may cost more than it
// saves, most of all on a busy machine, where its start has to wait.
inline constexpr std::int64_t minimum_weight_per_thread = 1 << 19;

inline constexpr int maximum_threads = 256;

// Threads to use where a caller names no number: FASTGENOME_THREADS of the environment, or one for each
// processor.
inline int default_threads() noexcept {
    static const int threads = [] {
        const char* const named = std::getenv("FASTGENOME_THREADS");
        const int number = named == nullptr ? 0 : std::atoi(named);
        return number > 0 ? number : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    }();
    return std::min(threads, maximum_threads);
}

// Threads that work of this weight deserves; `threads` above 0 is the answer itself.
inline int threads_for(std::int64_t weight, int threads) noexcept {
    if (threads > 0) return std::min(threads, maximum_threads);
    return static_cast<int>(
        std::clamp<std::int64_t>(weight / minimum_weight_per_thread, 1, default_threads()));
}

inline std::int64_t sum_of(std::span<const std::int64_t> weights) noexcept {
    std::int64_t sum = 0;
    for (const std::int64_t weight : weights) sum += weight;
    return sum;
}

// Cuts [0, weights.size()) into contiguous ranges of about equal weight, one per thread; empty ones are left
// out. `threads` = 0 means as many as the machine has and the weight deserves.
inline std::vector<Range> split_by_weight(std::span<const std::int64_t> weights, int threads) {
    const std::int64_t total = sum_of(weights);
    const std::int64_t parts = threads_for(total, threads);
    const auto size = static_cast<std::int64_t>(weights.size());
    std::vector<Range> ranges;
    std::int64_t begin = 0;
    std::int64_t done = 0;
    for (std::int64_t part = 1; part <= parts && begin < size; ++part) {
        // total * part could overflow: quotient and remainder apart.
        const std::int64_t goal = total / parts * part + total % parts * part / parts;
        std::int64_t end = begin;
        while (end < size && (part == parts || done < goal)) done += weights[end++];
        if (end > begin) ranges.push_back({begin, end});
        begin = end;
    }
    return ranges;
}

// Cuts [0, size) into at most `parts` ranges of about equal size; none is empty.
inline std::vector<Range> split_evenly(std::int64_t size, int parts) {
    const std::int64_t count = std::clamp<std::int64_t>(parts, 1, std::max<std::int64_t>(size, 1));
    std::vector<Range> ranges;
    for (std::int64_t part = 0, begin = 0; part < count; ++part) {
        const std::int64_t end = begin + (size - begin) / (count - part);
        if (end > begin) ranges.push_back({begin, end});
        begin = end;
    }
    return ranges;
}

// A range of items that one thread works through, or a single item that several threads share.
struct Share {
    Range range;
    int parts = 1;
};

// Shares of about equal weight for each thread; an item that outweighs a thread's share is one of its own,
// for all threads together.
inline std::vector<Share> share_out(std::span<const std::int64_t> weights, int threads) {
    const std::int64_t total = sum_of(weights);
    const int parts = threads_for(total, threads);
    const auto is_heavy = [&](std::int64_t weight) {
        return parts > 1 && weight >= 2 * minimum_weight_per_thread && weight >= total / parts;
    };
    std::vector<Share> shares;
    const auto size = static_cast<std::int64_t>(weights.size());
    for (std::int64_t begin = 0; begin < size;) {
        std::int64_t end = begin;
        while (end < size && !is_heavy(weights[static_cast<std::size_t>(end)])) ++end;
        const auto light =
            weights.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
        for (const Range range : split_by_weight(light, threads))
            shares.push_back({{begin + range.begin, begin + range.end}, 1});
        if (end < size) shares.push_back({{end, end + 1}, parts});
        begin = end + 1;
    }
    return shares;
}

// Calls work(index) for each index below `count`, on several threads.
template <typename Work>
void run_parallel(std::size_t count, Work&& work) {
    if (count == 1) return work(std::size_t{0});
    std::vector<std::exception_ptr> failures(count);
    auto guarded = [&](std::size_t index) noexcept {
        try {
            work(index);
        } catch (...) {
            failures[index] = std::current_exception();
        }
    };
    using Guarded = decltype(guarded);
    ThreadPool::shared().run(
        count, [](void* context, std::size_t index) { (*static_cast<Guarded*>(context))(index); }, &guarded);
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

// Calls work(range, index) for each range, on as many threads as there are ranges and processors.
template <typename Work>
void run_parallel(std::span<const Range> ranges, Work&& work) {
    run_parallel(ranges.size(), [&](std::size_t index) { work(ranges[index], index); });
}

}  // namespace fastgenome
