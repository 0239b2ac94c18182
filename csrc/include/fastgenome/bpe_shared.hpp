// A merge list and its automaton, once in the process for all tokenizers that have the same list.
//
// Contract: making one is cheap; the automaton is made when first asked for, by one thread while others wait,
// and lives as long as one of its users. A child made by fork may ask for it too, even if the parent was just
// making it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "bpe_automaton.hpp"
#include "bpe_merges.hpp"
#include "thread_pool.hpp"

namespace fastgenome {

class SharedBpe {
  public:
    explicit SharedBpe(MergeList list) : list_(std::move(list)) {}
    SharedBpe(const SharedBpe&) = delete;
    SharedBpe& operator=(const SharedBpe&) = delete;
    ~SharedBpe() { delete made_.load(std::memory_order_acquire); }

    static std::shared_ptr<const SharedBpe> of(MergeList list) {
        static std::vector<std::weak_ptr<const SharedBpe>> known;
        const std::lock_guard lock(mutex());
        std::erase_if(known, [](const auto& entry) { return entry.expired(); });
        for (const auto& entry : known) {
            if (auto shared = entry.lock(); shared && shared->list_ == list) return shared;
        }
        auto shared = std::make_shared<const SharedBpe>(std::move(list));
        known.push_back(shared);
        return shared;
    }

    const MergeList& list() const noexcept { return list_; }

    bool is_made() const noexcept { return made_.load(std::memory_order_acquire) != nullptr; }

    // The automaton, or nullptr where the list is too large for one.
    const BpeAutomaton* automaton() const {
        const auto* made = made_.load(std::memory_order_acquire);
        if (made == nullptr) {
            const std::lock_guard lock(mutex());
            made = made_.load(std::memory_order_acquire);
            if (made == nullptr) {
                made = new std::optional<BpeAutomaton>(BpeAutomaton::make(list_));
                made_.store(made, std::memory_order_release);
            }
        }
        return made->has_value() ? &**made : nullptr;
    }

  private:
    // The lock of this process: in a child made by fork it is a new one, since the parent's may be held by a
    // thread that is no more.
    static std::mutex& mutex() {
        static std::atomic<std::mutex*> current{nullptr};
#ifdef FASTGENOME_HAS_FORK
        static const int registered = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
        static_cast<void>(registered);
#endif
        std::mutex* mutex = current.load(std::memory_order_acquire);
        if (mutex != nullptr) return *mutex;
        auto* made = new std::mutex;
        if (current.compare_exchange_strong(mutex, made)) return *made;
        delete made;
        return *mutex;
    }

    MergeList list_;
    mutable std::atomic<const std::optional<BpeAutomaton>*> made_{nullptr};
};

}  // namespace fastgenome
