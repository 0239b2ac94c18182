// A main for compilers without libFuzzer: runs the files of the corpus folders, then random changes of them.
// Takes libFuzzer's -max_total_time=, -runs=, -max_len= and -seed=, and prints the same last line.
#include <sanitizer/common_interface_defs.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

// What is running, for the file that a fault leaves behind.
const Bytes* running = nullptr;
std::string artifact_prefix;

void save_running() {
    if (running == nullptr) return;
    std::ofstream file(artifact_prefix + "crash", std::ios::binary);
    file.write(reinterpret_cast<const char*>(running->data()), static_cast<std::streamsize>(running->size()));
}

void execute(const Bytes& bytes) {
    // Memory of exactly this size, so that a read beyond the end shows.
    const Bytes exact(bytes.begin(), bytes.end());
    running = &exact;
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    running = nullptr;
}

struct Options {
    std::int64_t seconds = 0;
    std::int64_t runs = -1;
    std::size_t longest = 4096;
    std::uint64_t seed = 1;
    std::vector<Bytes> corpus = {{}};
};

void read_folder(const char* path, std::vector<Bytes>& corpus) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
        std::ifstream file(entry.path(), std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
}

Options read_options(int count, char** arguments) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        const auto value = [&](const char* name) -> const char* {
            return argument.starts_with(name) ? arguments[i] + std::string(name).size() : nullptr;
        };
        if (const char* text = value("-max_total_time="))
            options.seconds = std::atoll(text);
        else if (const char* text = value("-runs="))
            options.runs = std::atoll(text);
        else if (const char* text = value("-max_len="))
            options.longest = std::strtoull(text, nullptr, 10);
        else if (const char* text = value("-seed="))
            options.seed = std::strtoull(text, nullptr, 10);
        else if (const char* text = value("-artifact_prefix="))
            artifact_prefix = text;
        else if (argument[0] != '-')
            read_folder(arguments[i], options.corpus);
    }
    return options;
}

// One to eight changes: a byte set, a stretch doubled, left out, or taken from another input.
Bytes changed(Bytes bytes, const std::vector<Bytes>& corpus, std::mt19937_64& random, std::size_t longest) {
    for (auto changes = random() % 8 + 1; changes-- > 0;) {
        const std::size_t begin = bytes.empty() ? 0 : random() % bytes.size();
        const std::size_t size =
            bytes.empty() ? 0 : random() % std::min<std::size_t>(bytes.size() - begin, 64) + 1;
        const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = first + static_cast<std::ptrdiff_t>(std::min(size, bytes.size() - begin));
        switch (random() % 4) {
            case 0:
                if (!bytes.empty()) bytes[begin] = static_cast<std::uint8_t>(random());
                break;
            case 1: {
                const Bytes copy(first, last);
                bytes.insert(first, copy.begin(), copy.end());
                break;
            }
            case 2:
                bytes.erase(first, last);
                break;
            default: {
                const Bytes& other = corpus[random() % corpus.size()];
                bytes.insert(first, other.begin(), other.end());
            }
        }
        if (bytes.size() > longest) bytes.resize(longest);
    }
    return bytes;
}

}  // namespace

int main(int count, char** arguments) {
    const Options options = read_options(count, arguments);
    __sanitizer_set_death_callback(save_running);
    std::signal(SIGABRT, [](int) { save_running(); });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
    std::int64_t done = 0;
    for (const Bytes& bytes : options.corpus) {
        execute(bytes);
        ++done;
    }
    std::mt19937_64 random(options.seed);
    const auto is_over = [&] {
        if (options.runs >= 0 && done >= options.runs) return true;
        return options.seconds > 0 && done % 64 == 0 && std::chrono::steady_clock::now() >= end;
    };
    while (!is_over()) {
        execute(changed(options.corpus[random() % options.corpus.size()], options.corpus, random,
                        options.longest));
        ++done;
    }
    std::printf("stat::number_of_executed_units: %lld\n", static_cast<long long>(done));
    return 0;
}
