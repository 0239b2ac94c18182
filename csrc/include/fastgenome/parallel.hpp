// Work over many items, cut by weight into as many contiguous ranges as there are threads.
//
// Contract: the work is done when a call returns, also when it throws. Small work runs on the calling thread
// alone.
#pragma once

#include <algorithm>
#include <cstdint>
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

// Threads that work of this weight deserves; `threads` above 0 is the answer itself.
inline std::int64_t threads_for(std::int64_t weight, int threads) {
    if (threads > 0) return threads;
    const std::int64_t available = std::max(1U, std::thread::hardware_concurrency());
    return std::clamp<std::int64_t>(weight / minimum_weight_per_thread, 1, available);
}

// Parts to cut each item into where there are too few items for ranges of them to be of equal weight; 1 where
// there are enough.
inline int parts_of_each(std::span<const std::int64_t> weights, int threads) {
    constexpr std::int64_t items_per_thread = 4;
    std::int64_t total = 0;
    for (const std::int64_t weight : weights) total += weight;
    const std::int64_t parts = threads_for(total, threads);
    const auto items = static_cast<std::int64_t>(weights.size());
    if (items >= items_per_thread * parts ||
        total / std::max<std::int64_t>(items, 1) < minimum_weight_per_thread)
        return 1;
    return static_cast<int>(parts);
}

// Cuts [0, weights.size()) into contiguous ranges of about equal weight, one per thread; empty ones are left
// out. `threads` = 0 means as many as the machine has and the weight deserves.
inline std::vector<Range> split_by_weight(std::span<const std::int64_t> weights, int threads) {
    std::int64_t total = 0;
    for (const std::int64_t weight : weights) total += weight;
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

// Calls work(range, index) once per range, on as many threads as there are ranges and processors.
template <typename Work>
void run_parallel(std::span<const Range> ranges, Work&& work) {
    if (ranges.size() == 1) return work(ranges[0], std::size_t{0});
    std::vector<std::exception_ptr> failures(ranges.size());
    auto guarded = [&](std::size_t index) noexcept {
        try {
            work(ranges[index], index);
        } catch (...) {
            failures[index] = std::current_exception();
        }
    };
    using Guarded = decltype(guarded);
    if (!ranges.empty()) {
        ThreadPool::shared().run(
            ranges.size(), [](void* context, std::size_t index) { (*static_cast<Guarded*>(context))(index); },
            &guarded);
    }
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

}  // namespace fastgenome
