// Registers of token ids, and when to write them past the caches.
//
// A large output that is written once need not be read into the caches first: that read costs as much as the
// write itself.
#pragma once

#include <cstdint>

#include "instruction_sets.hpp"

namespace fastgenome {

// Whether an output of so many bytes outgrows the caches, which other work shares.
constexpr bool worth_streaming(std::int64_t bytes) noexcept { return bytes >= std::int64_t{1} << 23; }

#ifdef FASTGENOME_X86
namespace detail {

template <typename Id>
FASTGENOME_AVX512 inline __m512i fill_register(Id id) noexcept {
    if constexpr (sizeof(Id) == 1) return _mm512_set1_epi8(static_cast<char>(id));
    if constexpr (sizeof(Id) == 2) return _mm512_set1_epi16(static_cast<short>(id));
    if constexpr (sizeof(Id) == 4) return _mm512_set1_epi32(static_cast<int>(id));
    if constexpr (sizeof(Id) == 8) return _mm512_set1_epi64(static_cast<long long>(id));
}

template <typename Id>
FASTGENOME_AVX512 inline __m512i add_ids(__m512i left, __m512i right) noexcept {
    if constexpr (sizeof(Id) == 1) return _mm512_add_epi8(left, right);
    if constexpr (sizeof(Id) == 2) return _mm512_add_epi16(left, right);
    if constexpr (sizeof(Id) == 4) return _mm512_add_epi32(left, right);
    if constexpr (sizeof(Id) == 8) return _mm512_add_epi64(left, right);
}

// The ids, with `other` where `mask` has a bit.
template <typename Id>
FASTGENOME_AVX512 inline __m512i replace_ids(__m512i ids, std::uint64_t mask, __m512i other) noexcept {
    if constexpr (sizeof(Id) == 1) return _mm512_mask_mov_epi8(ids, mask, other);
    if constexpr (sizeof(Id) == 2) return _mm512_mask_mov_epi16(ids, static_cast<__mmask32>(mask), other);
    if constexpr (sizeof(Id) == 4) return _mm512_mask_mov_epi32(ids, static_cast<__mmask16>(mask), other);
    if constexpr (sizeof(Id) == 8) return _mm512_mask_mov_epi64(ids, static_cast<__mmask8>(mask), other);
}

// Stores those ids for which `mask` has a bit.
template <typename Id>
FASTGENOME_AVX512 inline void store_ids(Id* out, __m512i ids, std::uint64_t mask) noexcept {
    if constexpr (sizeof(Id) == 1) _mm512_mask_storeu_epi8(out, mask, ids);
    if constexpr (sizeof(Id) == 2) _mm512_mask_storeu_epi16(out, static_cast<__mmask32>(mask), ids);
    if constexpr (sizeof(Id) == 4) _mm512_mask_storeu_epi32(out, static_cast<__mmask16>(mask), ids);
    if constexpr (sizeof(Id) == 8) _mm512_mask_storeu_epi64(out, static_cast<__mmask8>(mask), ids);
}

// Ids from as many bytes as a register holds ids.
template <typename Id>
FASTGENOME_AVX512 inline __m512i widen_ids(const std::uint8_t* bytes) noexcept {
    if constexpr (sizeof(Id) == 2)
        return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
    if constexpr (sizeof(Id) == 4)
        return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    if constexpr (sizeof(Id) == 8)
        return _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

}  // namespace detail
#endif

}  // namespace fastgenome
