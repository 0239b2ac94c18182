// The threads of the process: started when first needed, then kept asleep between calls.
//
// Contract: any number of threads may call `run` at once, also from within a task. The caller works too, so a
// task never waits for a thread that the system did not give. A child made by fork has no threads of its
// parent; it starts its own when it first needs them.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define FASTGENOME_HAS_FORK 1
#endif

namespace fastgenome {

class ThreadPool {
  public:
    // The pool of this process. It is never destroyed: its threads may outlive all else at exit.
    static ThreadPool& shared() {
        ThreadPool* pool = current().load(std::memory_order_acquire);
        if (pool != nullptr) return *pool;
        auto* made = new ThreadPool;
        if (current().compare_exchange_strong(pool, made)) return *made;
        delete made;
        return *pool;
    }

    // Calls task(context, i) for each i below `count`, on this thread and others; returns when all are done.
    // `task` must not throw.
    void run(std::size_t count, void (*task)(void*, std::size_t), void* context) {
        if (count == 0) return;
        Job job{task, context, count};
        std::unique_lock lock(mutex_);
        add_threads(count);
        jobs_.push_back(&job);
        work_waits_.notify_all();
        while (job.begun < job.count) perform_one(job, lock);
        job_ended_.wait(lock, [&job] { return job.ended == job.count; });
    }

    // For a child made by fork. The parent's pool is left alone there: its lock may be held by a thread that
    // is no more.
    static void forget() noexcept { current().store(nullptr); }

  private:
    struct Job {
        void (*task)(void*, std::size_t);
        void* context;
        std::size_t count;
        std::size_t begun = 0;
        std::size_t ended = 0;
    };

    static std::atomic<ThreadPool*>& current() noexcept {
        static std::atomic<ThreadPool*> pool{nullptr};
        return pool;
    }

    // Begins the next task of `job`, which must have one; the lock is open while it runs.
    void perform_one(Job& job, std::unique_lock<std::mutex>& lock) {
        const std::size_t index = job.begun++;
        if (job.begun == job.count) jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        lock.unlock();
        job.task(job.context, index);
        lock.lock();
        // The job lives on its caller's stack: it may be gone as soon as the lock opens.
        if (++job.ended == job.count) job_ended_.notify_all();
    }

    void serve() {
        std::unique_lock lock(mutex_);
        while (true) {
            work_waits_.wait(lock, [this] { return !jobs_.empty(); });
            perform_one(*jobs_.front(), lock);
        }
    }

    void add_threads(std::size_t tasks) {
        const std::size_t processors = std::max(1U, std::thread::hardware_concurrency());
        while (threads_ + 1 < std::min(tasks, processors)) {
            try {
                std::thread([this] { serve(); }).detach();
            } catch (const std::system_error&) {
                return;
            }
            ++threads_;
        }
    }

    std::mutex mutex_;
    std::condition_variable work_waits_;
    std::condition_variable job_ended_;
    std::deque<Job*> jobs_;  // those with tasks that have not begun
    std::size_t threads_ = 0;
};

#ifdef FASTGENOME_HAS_FORK
namespace detail {

// Registered on loading: done at the first use, it could be under way in another thread at the very fork.
inline const int fork_handler = pthread_atfork(nullptr, nullptr, &ThreadPool::forget);

}  // namespace detail
#endif

}  // namespace fastgenome
