// Work on many texts, each cleaned first, on as many threads as the work deserves.
//
// Contract: a text that is clean already is not copied; others go through one buffer per thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "alphabet.hpp"
#include "only_bases.hpp"
#include "parallel.hpp"

namespace fastgenome {

class Cleaner {
  public:
    // The cleaned text, valid until the next call.
    Text clean(Text text) {
        last_was_dna_ = true;
        if (only_upper_bases(text)) return text;
        buffer_.resize(std::max(buffer_.size(), text.size()));
        const Cleaned outcome = clean_into(text, buffer_);
        last_was_dna_ = outcome.counts.invalid == 0;
        return Text(buffer_).first(static_cast<std::size_t>(outcome.length));
    }

    // Whether the last text held nothing but what cleaning accepts.
    bool last_was_dna() const noexcept { return last_was_dna_; }

  private:
    std::vector<std::uint8_t> buffer_;
    bool last_was_dna_ = true;
};

// Weights for split_by_weight: characters, and what a text costs whatever its length.
inline std::vector<std::int64_t> text_weights(std::span<const Text> texts) {
    constexpr std::int64_t per_text = 32;
    std::vector<std::int64_t> weights;
    weights.reserve(texts.size());
    for (const Text text : texts) weights.push_back(static_cast<std::int64_t>(text.size()) + per_text);
    return weights;
}

// Calls make_work() once per thread and what it returns as work(text, index) for each cleaned text. Returns
// the index of the first text that is not DNA, or -1.
template <typename MakeWork>
std::int64_t for_each_clean(std::span<const Text> texts, int threads, MakeWork&& make_work) {
    const std::vector<std::int64_t> weights = text_weights(texts);
    const std::vector<Range> ranges = split_by_weight(weights, threads);
    std::vector<std::int64_t> invalid(ranges.size(), -1);
    run_parallel(ranges, [&](Range range, std::size_t r) {
        Cleaner cleaner;
        auto work = make_work();
        for (std::int64_t i = range.begin; i < range.end; ++i) {
            const Text text = cleaner.clean(texts[i]);
            if (!cleaner.last_was_dna() && invalid[r] < 0) invalid[r] = i;
            work(text, i);
        }
    });
    const auto found = std::find_if(invalid.begin(), invalid.end(), [](std::int64_t i) { return i >= 0; });
    return found == invalid.end() ? -1 : *found;
}

}  // namespace fastgenome
