#!/usr/bin/env bash
# Fuzzes the C++ core, and the readers of files in Python, with address and undefined-behaviour sanitizers.
#   bash tests/fuzz/run.sh SECONDS             all targets, one after the other, SECONDS together
#   bash tests/fuzz/run.sh --executions 1e8    all targets, as many executions together
# The targets of PORTABLE run their corpora without the instruction sets of x86-64, too.
# Exit status 1 where a target fails; its input stays in the folder that is named then.
#   FUZZ_FOLDER  for programs, corpora and executions.json, the executions of each target over all runs; default
#                build/fuzz
#   CXX          compiler, default a clang++ that has libFuzzer; where there is none, g++ and standalone.cpp
#   TARGETS      names of targets, default all
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${FUZZ_FOLDER:-build/fuzz}
names=$(cd tests/fuzz && ls *.cpp | sed 's/\.cpp$//' | grep -v -x standalone)
read -r -a targets <<< "${TARGETS:-$(echo $names) vocabulary_files file_readers}"
mkdir -p "$folder/corpus" "$folder/found"

has_libfuzzer() {
    echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
        "$1" -x c++ -fsanitize=fuzzer,address,undefined - -o "$folder/probe" 2> "$folder/probe.log"
}

if [ -z "${CXX:-}" ]; then
    for candidate in clang++ clang++-{20,19,18,17,16,15,14}; do
        if command -v "$candidate" > "$folder/probe.log" && has_libfuzzer "$candidate"; then
            CXX=$candidate
            break
        fi
    done
fi
flags=(-std=c++20 -O2 -g1 -pthread -ffp-contract=off -fno-sanitize-recover=all -Icsrc/include -Itests/fuzz)
if [ -n "${CXX:-}" ] && has_libfuzzer "$CXX"; then
    flags+=(-fsanitize=fuzzer,address,undefined)
else
    CXX=${CXX:-g++}
    echo "No clang++ with libFuzzer here: replaying the corpus and changing it at random, built by $CXX."
    echo "For guided fuzzing install one, on Debian: apt-get install -y clang-14 libclang-rt-14-dev"
    flags+=(-fsanitize=address,undefined tests/fuzz/standalone.cpp)
fi
printf '%s\n' "${flags[@]}" > "$folder/flags.new"
cmp --silent "$folder/flags" "$folder/flags.new" || mv "$folder/flags.new" "$folder/flags"
export CXX folder

build() {
    local program="$folder/$1"
    if [ -x "$program" ] && [ ! "$folder/flags" -nt "$program" ] &&
        [ -z "$(find csrc/include tests/fuzz -newer "$program" -name '*.[ch]pp' -print -quit)" ]; then
        return
    fi
    local portable=()
    if [[ "$1" == *.portable ]]; then portable=(-DFASTGENOME_PORTABLE); fi
    "$CXX" "@$folder/flags" "${portable[@]}" "tests/fuzz/${1%.portable}.cpp" -o "$program"
}
export -f build

share=$((${#targets[@]}))
if [ "${1:-}" = "--executions" ]; then
    each=$(python3 -c "import math, sys; print(math.ceil(float(sys.argv[1]) / int(sys.argv[2])))" "$2" "$share")
    limit="-runs=$each"
else
    each=$(((${1:?SECONDS or --executions N} + share - 1) / share))
    limit="-max_total_time=$each"
fi

# The core works in blocks of about 1,000 characters; what costs more for each is tried on shorter texts.
longest() {
    case "$1" in
        bpe) echo 256 ;;
        batch | block_kmers | indexed_fasta | sequences | two_bit) echo 600 ;;
        *) echo 1100 ;;
    esac
}

# libFuzzer's own names for what both kinds of programs take.
fuzz() {
    local target=$1
    shift
    mkdir -p "$folder/corpus/$target"
    "$@" "$limit" -max_len="$(longest "$target")" -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$folder/found/$target-" "$folder/corpus/$target" > "$folder/$target.log" 2>&1
}

python3 tests/fuzz/make_corpus.py "$folder/corpus"
programs=()
portable=()
for target in "${targets[@]}"; do
    if [ -f "tests/fuzz/$target.cpp" ]; then programs+=("$target"); fi
    if [[ " ${PORTABLE-sliding_kmers kmer_rows} " == *" $target "* ]]; then portable+=("$target"); fi
done
printf '%s\n' "${programs[@]}" "${portable[@]/%/.portable}" | sed '/^$/d' |
    xargs -r -P "$(nproc)" -I{} bash -e -c 'build {}'
failed=0
for target in "${targets[@]}"; do
    program=("$folder/$target")
    if [ -f "tests/fuzz/$target.py" ]; then program=(python3 "tests/fuzz/$target.py"); fi
    if fuzz "$target" "${program[@]}"; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/$target.log")
        echo "$target: ${executions:?no count in $folder/$target.log} executions"
        python3 tests/fuzz/count.py "$folder/executions.json" "$target" "$executions"
    else
        failed=1
        echo "$target: FAILED, see $folder/$target.log and $folder/found"
        tail -n 40 "$folder/$target.log"
    fi
done
for target in "${portable[@]}"; do
    if "$folder/$target.portable" -runs=0 "$folder/corpus/$target" > "$folder/$target.portable.log" 2>&1; then
        echo "$target, portable: corpus passed"
    else
        failed=1
        echo "$target, portable: FAILED, see $folder/$target.portable.log"
        tail -n 40 "$folder/$target.portable.log"
    fi
done
exit "$failed"
