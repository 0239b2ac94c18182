// One row for each window that slides over a text.
//
// Contract: the text is clean; window w covers [w * stride, w * stride + window). Threads share the windows
// out in ranges, each of which counts its first window anew, so that the rows are the same on any number of
// threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "alphabet.hpp"
#include "parallel.hpp"
#include "rolling.hpp"

namespace fastgenome {

// What becomes of a sequence or window that holds an N.
enum class UnknownPolicy : int {
    skip,    // its bases and k-mers without N count
    nan,     // its row is not a number
    refuse,  // it is reported
};

struct Windows {
    std::int64_t length = 1;
    std::int64_t stride = 1;

    std::int64_t count(std::int64_t size) const noexcept {
        return size < length ? 0 : (size - length) / stride + 1;
    }
};

// The place of the next N; windows are asked for from left to right.
class NextUnknown {
  public:
    explicit NextUnknown(Text text) : text_(text) {}

    bool in(std::int64_t begin, std::int64_t end) noexcept {
        if (place_ < begin) {
            const auto size = static_cast<std::int64_t>(text_.size());
            const void* found =
                std::memchr(text_.data() + begin, 'N', static_cast<std::size_t>(size - begin));
            place_ = found == nullptr ? size : static_cast<const std::uint8_t*>(found) - text_.data();
        }
        return place_ < end;
    }

  private:
    Text text_;
    std::int64_t place_ = -1;
};

namespace detail {

// The rows of windows[range]; returns the first window with an N that is to be refused, or -1.
template <typename Rows, typename Value>
std::int64_t write_windows(Text text, const Rows& rows, const Windows& windows, Range range,
                           UnknownPolicy unknown, Value* out) {
    RollingCounts rolling(text, windows.length, rows.tables(), rows.needs_bases());
    NextUnknown next_unknown(text);
    const auto width = static_cast<std::int64_t>(rows.width());
    for (std::int64_t w = range.begin; w < range.end; ++w) {
        const std::int64_t start = w * windows.stride;
        Value* const row = out + w * width;
        if (unknown != UnknownPolicy::skip && next_unknown.in(start, start + windows.length)) {
            if (unknown == UnknownPolicy::refuse) return w;
            std::fill_n(row, width, std::numeric_limits<Value>::quiet_NaN());
            continue;
        }
        rolling.move_to(start);
        rows.write(rolling.counts(), start, rolling.bases(), row);
    }
    return -1;
}

}  // namespace detail

// The sum of one counter over all windows: what the sliding costs without the writing of rows.
template <typename Rows>
std::int64_t sum_windows(Text text, const Rows& rows, const Windows& windows, std::size_t counter) {
    RollingCounts rolling(text, windows.length, rows.tables(), rows.needs_bases());
    const std::int64_t count = windows.count(static_cast<std::int64_t>(text.size()));
    std::int64_t sum = 0;
    for (std::int64_t w = 0; w < count; ++w) {
        rolling.move_to(w * windows.stride);
        sum += rolling.counts()[counter];
    }
    return sum;
}

// Writes windows.count(text.size()) rows of rows.width() numbers. Returns the first window that is refused,
// or -1. A window must be shorter than 2^31.
template <typename Rows, typename Value>
std::int64_t write_window_rows(Text text, const Rows& rows, const Windows& windows, UnknownPolicy unknown,
                               int threads, Value* out) {
    const auto size = static_cast<std::int64_t>(text.size());
    const std::vector<Range> ranges = split_evenly(windows.count(size), threads_for(size, threads));
    std::vector<std::int64_t> refused(ranges.size(), -1);
    run_parallel(ranges, [&](Range range, std::size_t r) {
        refused[r] = detail::write_windows(text, rows, windows, range, unknown, out);
    });
    const auto found = std::ranges::find_if(refused, [](std::int64_t w) { return w >= 0; });
    return found == refused.end() ? -1 : *found;
}

}  // namespace fastgenome
