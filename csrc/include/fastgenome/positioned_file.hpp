// A file read at given places, by many threads and processes at once.
//
// Not a memory map: a file that shrinks while it is mapped kills the process.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>

#include "byte_source.hpp"
#include "input_errors.hpp"

namespace fastgenome {

class PositionedFile final : public ByteSource {
  public:
    // Throws std::system_error.
    explicit PositionedFile(const std::string& path) : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (file_ < 0) throw std::system_error(errno, std::generic_category(), "cannot open " + path);
        state_ = state();
    }
    PositionedFile(const PositionedFile&) = delete;
    PositionedFile& operator=(const PositionedFile&) = delete;
    ~PositionedFile() override {
        if (file_ >= 0) ::close(file_);
    }

    std::int64_t size() const override { return state_.size; }

    // Throws truncated_input, std::system_error.
    void read(std::int64_t offset, std::span<std::uint8_t> out) const override {
        constexpr std::size_t most = std::size_t{1} << 30;  // some systems refuse 2 GiB at a time
        while (!out.empty()) {
            const ssize_t got = ::pread(file_, out.data(), std::min(out.size(), most), offset);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) throw std::system_error(errno, std::generic_category(), "cannot read");
            if (got == 0) {
                throw truncated_input("the file ends at byte " + std::to_string(offset) +
                                      " where more was to come");
            }
            offset += got;
            out = out.subspan(static_cast<std::size_t>(got));
        }
    }

    // By the size and the time of the last change.
    void check_unchanged() const override {
        if (state() != state_)
            throw malformed_input("the file has changed since it was opened; open it again");
    }

  private:
    struct State {
        std::int64_t size = 0;
        std::int64_t seconds = 0;
        std::int64_t nanoseconds = 0;
        bool operator==(const State&) const = default;
    };

    State state() const {
        struct stat status{};
        if (::fstat(file_, &status) != 0)
            throw std::system_error(errno, std::generic_category(), "cannot read");
#ifdef __APPLE__
        const timespec changed = status.st_mtimespec;
#else
        const timespec changed = status.st_mtim;
#endif
        return {status.st_size, changed.tv_sec, changed.tv_nsec};
    }

    int file_;
    State state_;
};

}  // namespace fastgenome
