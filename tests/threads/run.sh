#!/usr/bin/env bash
# Tests the pool of threads twice: built with the thread sanitizer, and as it is, with forks while it is busy.
#   bash tests/threads/run.sh        CXX: compiler, default g++; THREADS_FOLDER: for programs, default build/threads
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${THREADS_FOLDER:-build/threads}
mkdir -p "$folder"
flags=(-std=c++20 -O1 -g -pthread -ffp-contract=off -Wall -Wextra -Icsrc/include tests/threads/thread_pool.cpp)
"${CXX:-g++}" "${flags[@]}" -fsanitize=thread -DWITHOUT_FORK -o "$folder/sanitized"
"${CXX:-g++}" "${flags[@]}" -o "$folder/plain"
for program in sanitized plain; do
    echo "== $program"
    TSAN_OPTIONS=halt_on_error=1 timeout 300 "$folder/$program"
done
