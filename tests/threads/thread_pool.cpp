// The pool of threads under what a Python process may do to it: many callers at once, calls within calls,
// tasks that throw, and forks while it is busy. Built with the thread sanitizer by tests/threads/run.sh.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fastgenome/batch.hpp"
#include "fastgenome/bpe.hpp"
#include "fastgenome/parallel.hpp"

namespace {

using fastgenome::Range;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

std::vector<Range> ranges_of(std::int64_t count) {
    std::vector<Range> ranges;
    for (std::int64_t i = 0; i < count; ++i) ranges.push_back({i, i + 1});
    return ranges;
}

// Runs `work` on so many threads of its own, which begin together.
template <typename Work>
void on_threads(int count, const Work& work) {
    std::atomic<int> waiting{count};
    std::vector<std::thread> threads;
    for (int caller = 0; caller < count; ++caller) {
        threads.emplace_back([&, caller] {
            for (--waiting; waiting > 0;) std::this_thread::yield();
            work(caller);
        });
    }
    for (std::thread& thread : threads) thread.join();
}

void check_one_call(std::int64_t tasks) {
    // Plain numbers: a task that ran twice or beside the call's end would be a data race.
    std::vector<int> runs(static_cast<std::size_t>(tasks));
    fastgenome::run_parallel(ranges_of(tasks), [&](Range range, std::size_t index) {
        require(range.begin == static_cast<std::int64_t>(index), "a task gets its own range");
        ++runs[index];
    });
    require(std::ranges::all_of(runs, [](int count) { return count == 1; }), "every task runs once");
}

void many_callers() {
    on_threads(8, [](int caller) {
        for (int i = 0; i < 300; ++i) check_one_call((caller * 7 + i) % 20);
    });
}

std::int64_t nested_sum(int depth) {
    if (depth == 0) return 1;
    std::array<std::int64_t, 3> sums{};
    fastgenome::run_parallel(ranges_of(3),
                             [&](Range, std::size_t index) { sums[index] = nested_sum(depth - 1); });
    return std::accumulate(sums.begin(), sums.end(), std::int64_t{0});
}

void calls_within_calls() {
    on_threads(4, [](int) {
        for (int i = 0; i < 20; ++i) require(nested_sum(4) == 81, "every nested task runs once");
    });
}

void tasks_that_throw() {
    on_threads(4, [](int caller) {
        for (int i = 0; i < 100; ++i) {
            std::vector<int> runs(12);
            std::string message;
            try {
                fastgenome::run_parallel(ranges_of(12), [&](Range, std::size_t index) {
                    ++runs[index];
                    if (index >= static_cast<std::size_t>(caller) + 2)
                        throw std::runtime_error(std::to_string(index));
                });
            } catch (const std::runtime_error& error) {
                message = error.what();
            }
            require(message == std::to_string(caller + 2), "the first failure is thrown");
            require(std::accumulate(runs.begin(), runs.end(), 0) == 12, "a failure ends no other task");
        }
    });
}

void no_tasks_at_all() {
    fastgenome::ThreadPool::shared().run(0, [](void*, std::size_t) { std::abort(); }, nullptr);
    check_one_call(9);
}

// One encoder, whose tables may be made on first use, on many threads.
void shared_encoder() {
    std::array<std::int32_t, 256> bytes;
    bytes.fill(-1);
    for (int i = 0; i < 4; ++i) bytes[static_cast<std::uint8_t>("ACGT"[i])] = i;
    const std::vector<fastgenome::Merge> merges = {{0, 1, 4}, {4, 4, 5}, {2, 3, 6}, {5, 6, 7}};
    const std::string text = "ACACGTTTACGTACACACACGTGTGT";
    const std::vector<fastgenome::Text> texts(
        64, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    for (int round = 0; round < 20; ++round) {
        const fastgenome::Bpe encoder(fastgenome::MergeList(bytes, merges), 9);
        on_threads(4, [&](int) {
            const fastgenome::BatchLayout layout{
                .prefix = {}, .suffix = {}, .literals = nullptr, .clean = true, .threads = 4};
            std::vector<std::int32_t> ids(texts.size() * text.size());
            std::vector<std::int64_t> offsets(texts.size() + 1);
            const auto result = fastgenome::encode_batch(encoder, texts, layout, std::span(ids), offsets);
            require(result.total == static_cast<std::int64_t>(texts.size()) * offsets[1],
                    "all texts are alike");
            const std::vector<std::int32_t> first(ids.begin(), ids.begin() + offsets[1]);
            // ACACGT TT AC GT ACACACACGT GT GT, each pair of AC joined from the left.
            const std::vector<std::int32_t> expected = {7, 3, 3, 4, 6, 5, 7, 6, 6};
            require(first == expected, "the ids of the text");
        });
    }
}

// The thread sanitizer supports no new threads in a child of many threads, so that this is left out there.
#ifndef WITHOUT_FORK
void forks_while_busy() {
    std::atomic<bool> is_over{false};
    std::vector<std::thread> busy;
    for (int i = 0; i < 3; ++i) {
        busy.emplace_back([&] {
            while (!is_over) check_one_call(8);
        });
    }
    for (int i = 0; i < 200; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (int call = 0; call < 5; ++call) check_one_call(8);
            _exit(0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        require(status == 0, "a child has a working pool of its own");
    }
    is_over = true;
    for (std::thread& thread : busy) thread.join();
}
#endif

}  // namespace

int main(int count, char** arguments) {
    const std::string only = count > 1 ? arguments[1] : "";
    const auto run = [&only](const char* name, void (*check)()) {
        if (!only.empty() && only != name) return;
        check();
        std::printf("%s: passed\n", name);
        std::fflush(stdout);
    };
#ifndef WITHOUT_FORK
    run("forks_while_busy", forks_while_busy);  // first, so that the pool is made while forks happen
#endif
    run("many_callers", many_callers);
    run("calls_within_calls", calls_within_calls);
    run("tasks_that_throw", tasks_that_throw);
    run("no_tasks_at_all", no_tasks_at_all);
    run("shared_encoder", shared_encoder);
}
