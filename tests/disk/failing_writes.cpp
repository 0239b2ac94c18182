// Lets a write to the files of one folder fail as on a full disk, or kills the process before it.
//
// For LD_PRELOAD, set up by the environment:
// FAILING_FOLDER: the folder; nothing is counted without it. FAILING_WRITE: which write fails, from 1.
// FAILING_SIGNAL: with which signal the process is killed instead.
// FAILING_LOG: a file that gets the line "write 1" for each write that is counted.

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

std::atomic<long> taken{0};

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

/// Count a write; whether it is the one that fails, with errno set.
bool fails(int descriptor) {
    const char* folder = std::getenv("FAILING_FOLDER");
    if (folder == nullptr || descriptor < 0) {
        return false;
    }
    char path[PATH_MAX];
    const auto link = "/proc/self/fd/" + std::to_string(descriptor);
    const auto length = readlink(link.c_str(), path, sizeof path - 1);
    if (length < 0 || std::strncmp(path, folder, std::strlen(folder)) != 0) {
        return false;
    }
    const char* wanted = std::getenv("FAILING_WRITE");
    const bool chosen = ++taken == (wanted == nullptr ? 0 : std::atol(wanted));
    if (const char* log = std::getenv("FAILING_LOG")) {
        const int file = open(log, O_WRONLY | O_APPEND | O_CREAT, 0666);
        static const auto real = next<ssize_t(int, const void*, size_t)>("write");
        real(file, "write 1\n", 8);
        close(file);
    }
    if (const char* number = std::getenv("FAILING_SIGNAL"); chosen && number != nullptr) {
        kill(getpid(), std::atoi(number));
    }
    errno = chosen ? ENOSPC : errno;
    return chosen;
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* content, size_t size) {
    static const auto real = next<ssize_t(int, const void*, size_t)>("write");
    return fails(descriptor) ? -1 : real(descriptor, content, size);
}

ssize_t writev(int descriptor, const iovec* parts, int n) {
    static const auto real = next<ssize_t(int, const iovec*, int)>("writev");
    return fails(descriptor) ? -1 : real(descriptor, parts, n);
}

ssize_t pwrite64(int descriptor, const void* content, size_t size, off64_t place) {
    static const auto real = next<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
    return fails(descriptor) ? -1 : real(descriptor, content, size, place);
}

size_t fwrite(const void* content, size_t size, size_t n, FILE* file) {
    static const auto real = next<size_t(const void*, size_t, size_t, FILE*)>("fwrite");
    return fails(fileno(file)) ? 0 : real(content, size, n, file);
}
}
