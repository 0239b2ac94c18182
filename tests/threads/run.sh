#!/usr/bin/env bash
# Tests the pool of threads: built with the thread sanitizer; as it is, with forks while it is busy; and without
# the instruction sets of x86-64. Then sizes beyond 32 bits, with the undefined-behaviour sanitizer.
#   bash tests/threads/run.sh        CXX: compiler, default g++; THREADS_FOLDER: for programs, default build/threads
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${THREADS_FOLDER:-build/threads}
mkdir -p "$folder"
compile() {
    "${CXX:-g++}" -std=c++20 -O1 -g -pthread -ffp-contract=off -Wall -Wextra -Icsrc/include "$@"
}
compile tests/threads/thread_pool.cpp -fsanitize=thread -DWITHOUT_FORK -o "$folder/sanitized"
compile tests/threads/thread_pool.cpp -o "$folder/plain"
compile tests/threads/thread_pool.cpp -DFASTGENOME_PORTABLE -o "$folder/portable"
compile tests/threads/large_sizes.cpp -fsanitize=undefined -fno-sanitize-recover=all -o "$folder/large_sizes"
for program in sanitized plain portable large_sizes; do
    echo "== $program"
    TSAN_OPTIONS=halt_on_error=1 timeout 300 "$folder/$program"
done
