// One loop, compiled for several instruction sets of x86-64, the best one chosen when the program runs.
//
// A Loop is a struct whose static `run(arguments...)` is plain C++; dispatch<Loop>(arguments...) calls the
// version that the compiler made of it for this processor. Where intrinsics do better, the Loop has a static
// `run_avx512` of the same arguments as well, marked FASTGENOME_AVX512. All versions must give the same
// result: build with -ffp-contract=off, or a product and a sum become one operation where the set has it,
// which rounds once. Other processors and compilers, and builds with FASTGENOME_PORTABLE, have the plain
// version alone.
//
// Contract: dispatching neither throws nor allocates; it costs one load and a predictable branch, so call it
// for a block of work, not for a base.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FASTGENOME_PORTABLE)
#define FASTGENOME_X86 1
#include <immintrin.h>
#endif

namespace fastgenome {

// avx512 stands for the set that Ice Lake and Zen 4 brought: F, BW, DQ, VL, VBMI and VBMI2.
enum class InstructionSet : int { baseline = 0, avx2 = 1, avx512 = 2 };

inline InstructionSet best_instruction_set() noexcept {
#ifdef FASTGENOME_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        return InstructionSet::avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt")) {
        return InstructionSet::avx2;
    }
#endif
    return InstructionSet::baseline;
}

namespace detail {

inline std::atomic<InstructionSet> chosen_instruction_set{best_instruction_set()};

}  // namespace detail

inline InstructionSet instruction_set() noexcept {
    return detail::chosen_instruction_set.load(std::memory_order_relaxed);
}

// For tests and measurements: `set` at the most, for the whole process. Returns the one in use, which is
// lower where the processor lacks `set`.
inline InstructionSet limit_instruction_set(InstructionSet set) noexcept {
    const InstructionSet best = best_instruction_set();
    detail::chosen_instruction_set.store(set < best ? set : best, std::memory_order_relaxed);
    return instruction_set();
}

#ifdef FASTGENOME_X86
#define FASTGENOME_AVX2 __attribute__((target("avx2,bmi,bmi2,fma,popcnt")))
#ifdef __clang__
#define FASTGENOME_AVX512 \
    __attribute__((       \
        target("avx2,bmi,bmi2,fma,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")))
#else
#define FASTGENOME_AVX512                                                                                  \
    __attribute__((target(                                                                                 \
        "avx2,bmi,bmi2,fma,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,prefer-" \
        "vector-width=512")))
#endif
#else
#define FASTGENOME_AVX2
#define FASTGENOME_AVX512
#endif

namespace detail {

#ifdef FASTGENOME_X86
// `flatten` inlines the loop and all that it calls, so that it is compiled for the set of its caller.
template <typename Loop, typename... Arguments>
FASTGENOME_AVX2 __attribute__((flatten)) auto run_avx2(Arguments... arguments) noexcept {
    return Loop::run(arguments...);
}

template <typename Loop, typename... Arguments>
FASTGENOME_AVX512 __attribute__((flatten)) auto run_avx512(Arguments... arguments) noexcept {
    if constexpr (requires { Loop::run_avx512(arguments...); }) {
        return Loop::run_avx512(arguments...);
    } else {
        return Loop::run(arguments...);
    }
}
#endif

}  // namespace detail

template <typename Loop, typename... Arguments>
auto dispatch(Arguments... arguments) noexcept {
#ifdef FASTGENOME_X86
    switch (instruction_set()) {
        case InstructionSet::avx512:
            return detail::run_avx512<Loop>(arguments...);
        case InstructionSet::avx2:
            return detail::run_avx2<Loop>(arguments...);
        case InstructionSet::baseline:
            break;
    }
#endif
    return Loop::run(arguments...);
}

}  // namespace fastgenome
