// A merge list and its automaton, once in the process for all tokenizers that have the same list.
//
// Contract: making one is cheap; the automaton is made when first asked for, and lives as long as one of its
// users. Threads that ask for it at once each make it, and the first one's stays: no lock is held meanwhile,
// which a fork could leave locked in the child.
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
    // The lists that some tokenizer has, and their lock. A child made by fork begins anew: a thread that is
    // no more may have held the parent's.
    struct Known {
        std::mutex mutex;
        std::vector<std::weak_ptr<const SharedBpe>> lists;

        static Known& current() {
            Known* known = pointer().load(std::memory_order_acquire);
            if (known != nullptr) return *known;
            auto* made = new Known;
            if (pointer().compare_exchange_strong(known, made)) return *made;
            delete made;
            return *known;
        }

        static void forget() noexcept { pointer().store(nullptr); }

      private:
        static std::atomic<Known*>& pointer() noexcept {
            static std::atomic<Known*> known{nullptr};
            return known;
        }
    };

    explicit SharedBpe(MergeList list) : list_(std::move(list)) {}
    SharedBpe(const SharedBpe&) = delete;
    SharedBpe& operator=(const SharedBpe&) = delete;
    ~SharedBpe() { delete made_.load(std::memory_order_acquire); }

    static std::shared_ptr<const SharedBpe> of(MergeList list) {
        Known& known_lists = Known::current();
        const std::lock_guard lock(known_lists.mutex);
        auto& known = known_lists.lists;
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
            auto ours = std::make_unique<const std::optional<BpeAutomaton>>(BpeAutomaton::make(list_));
            if (made_.compare_exchange_strong(made, ours.get())) made = ours.release();
        }
        return made->has_value() ? &**made : nullptr;
    }

  private:
    MergeList list_;
    mutable std::atomic<const std::optional<BpeAutomaton>*> made_{nullptr};
};

#ifdef FASTGENOME_HAS_FORK
namespace detail {

inline const int known_lists_fork_handler = pthread_atfork(nullptr, nullptr, &SharedBpe::Known::forget);

}  // namespace detail
#endif

}  // namespace fastgenome
