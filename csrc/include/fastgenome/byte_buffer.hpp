// Bytes that grow at the end, without being written before they are filled.
//
// Contract: memory that is reserved and never filled costs nothing; large buffers ask for large pages, for
// with small ones the first touch of a page costs more than filling it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastgenome {

class ByteBuffer {
  public:
    ByteBuffer() = default;
    ByteBuffer(ByteBuffer&& other) noexcept { swap(other); }
    ByteBuffer& operator=(ByteBuffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~ByteBuffer() { std::free(data_); }

    std::uint8_t* data() noexcept { return data_; }
    const std::uint8_t* data() const noexcept { return data_; }
    std::int64_t size() const noexcept { return size_; }

    // Makes room for `capacity` bytes in all. Throws std::bad_alloc.
    void reserve(std::int64_t capacity) {
        if (capacity <= capacity_) return;
        void* moved = std::realloc(data_, static_cast<std::size_t>(capacity));
        if (moved == nullptr) throw std::bad_alloc();
        data_ = static_cast<std::uint8_t*>(moved);
        capacity_ = capacity;
        ask_for_large_pages();
    }

    // Makes room for `more` bytes behind the end and returns where it is; `grow` then takes them in.
    std::uint8_t* room(std::int64_t more) {
        if (more > capacity_ - size_) reserve(std::max(size_ + more, capacity_ + capacity_ / 2));
        return data_ + size_;
    }
    void grow(std::int64_t more) noexcept { size_ += more; }

    // The bytes may stand behind the end, in the buffer's own room.
    void append(const void* bytes, std::int64_t size) {
        if (size == 0) return;
        std::memmove(room(size), bytes, static_cast<std::size_t>(size));
        grow(size);
    }

    void shrink_to(std::int64_t size) noexcept { size_ = size; }

    // Removes the first bytes; the rest moves to the front.
    void drop_front(std::int64_t size) noexcept {
        if (size == 0) return;
        std::memmove(data_, data_ + size, static_cast<std::size_t>(size_ - size));
        size_ -= size;
    }

  private:
    void swap(ByteBuffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }

    void ask_for_large_pages() noexcept {
#ifdef __linux__
        constexpr std::uintptr_t page = 4096;
        constexpr std::int64_t large = 1 << 22;
        if (capacity_ < large) return;
        const auto first = (reinterpret_cast<std::uintptr_t>(data_) + page - 1) / page * page;
        const auto last = (reinterpret_cast<std::uintptr_t>(data_) + capacity_) / page * page;
        // Advice only: where it is refused, small pages serve.
        static_cast<void>(madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE));
#endif
    }

    std::uint8_t* data_ = nullptr;
    std::int64_t size_ = 0;
    std::int64_t capacity_ = 0;
};

}  // namespace fastgenome
