// Genomes in UCSC's 2bit format: both byte orders, version 0 and version 1 (64-bit offsets).
//
// Layout, numbers of four bytes unless said otherwise: signature 0x1A412743, version, count, 0; then per
// sequence the size of its name (one byte), the name and the offset of its record (four bytes, or eight in
// version 1). A record: bases; count of N blocks, their starts, their sizes; the same of mask blocks
// (lower case); 0; the bases, four a byte, the first in the highest bits, T C A G = 0 1 2 3.
//
// Contract: every number is checked against the file's size before memory is taken for what it counts.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "byte_source.hpp"
#include "genome.hpp"
#include "input_errors.hpp"

namespace fastgenome {

namespace detail {

inline constexpr std::uint32_t two_bit_signature = 0x1A412743;

constexpr std::uint32_t reversed_bytes(std::uint32_t word) noexcept {
    return word >> 24 | (word >> 8 & 0xFF00) | (word << 8 & 0xFF0000) | word << 24;
}

// The four letters of a packed byte.
constexpr std::array<std::array<std::uint8_t, 4>, 256> make_unpacked() noexcept {
    std::array<std::array<std::uint8_t, 4>, 256> unpacked{};
    for (int byte = 0; byte < 256; ++byte) {
        for (int i = 0; i < 4; ++i) {
            unpacked[byte][i] = static_cast<std::uint8_t>("TCAG"[byte >> (6 - 2 * i) & 3]);
        }
    }
    return unpacked;
}

inline constexpr auto unpacked = make_unpacked();

// Reads numbers one behind the other.
class TwoBitCursor {
  public:
    TwoBitCursor(const ByteSource& file, std::int64_t offset, bool swap)
        : source_(file), offset_(offset), swap_(swap) {}

    std::int64_t offset() const noexcept { return offset_; }
    std::int64_t left() const noexcept { return source_.size() - offset_; }

    void bytes(std::span<std::uint8_t> out) {
        need(static_cast<std::int64_t>(out.size()));
        source_.read(offset_, out);
        offset_ += static_cast<std::int64_t>(out.size());
    }

    std::int64_t word() {
        std::array<std::uint8_t, 4> raw;
        bytes(raw);
        const auto word = std::bit_cast<std::uint32_t>(raw);
        return swap_ ? reversed_bytes(word) : word;
    }

    std::vector<std::uint32_t> words(std::int64_t count) {
        need(4 * count);
        std::vector<std::uint32_t> words(static_cast<std::size_t>(count));
        bytes({reinterpret_cast<std::uint8_t*>(words.data()), words.size() * 4});
        if (swap_) std::ranges::transform(words, words.begin(), reversed_bytes);
        return words;
    }

    std::int64_t long_word() {
        const std::int64_t first = word();
        const std::int64_t second = word();
        const bool is_little = (std::endian::native == std::endian::little) != swap_;
        const std::int64_t high = is_little ? second : first;
        const std::int64_t low = is_little ? first : second;
        if (high > std::numeric_limits<std::int32_t>::max()) return std::numeric_limits<std::int64_t>::max();
        return high << 32 | low;
    }

    void skip(std::int64_t size) {
        need(size);
        offset_ += size;
    }

  private:
    void need(std::int64_t size) const {
        if (size <= left()) return;
        throw truncated_input("the 2bit file is cut short: " + std::to_string(size) +
                              " bytes should follow at byte " + std::to_string(offset_) + " of " +
                              std::to_string(source_.size()));
    }

    const ByteSource& source_;
    std::int64_t offset_;
    bool swap_;
};

}  // namespace detail

class TwoBitGenome final : public Genome {
  public:
    // Throws malformed_input, truncated_input.
    TwoBitGenome(std::unique_ptr<ByteSource> file, bool keep_case) : Genome({}), file_(std::move(file)) {
        detail::TwoBitCursor header(*file_, 0, false);
        if (header.left() < 16) throw truncated_input("the 2bit file is cut short: it has no whole header");
        const auto signature = static_cast<std::uint32_t>(header.word());
        swap_ = signature == detail::reversed_bytes(detail::two_bit_signature);
        if (!swap_ && signature != detail::two_bit_signature) throw malformed_input("not a 2bit file");
        read_contigs(keep_case);
    }

    void read(const Region& region, std::uint8_t* out) const override {
        if (region.length() == 0) return;
        const Record& record = records_[region.contig];
        unpack(record.packed, region, out);
        for_each_block(record.unknown, region, [&](std::int64_t begin, std::int64_t end) {
            std::memset(out + begin, 'N', static_cast<std::size_t>(end - begin));
        });
        for_each_block(record.masked, region, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) out[i] |= 0x20;
        });
    }

    void check_unchanged() const override { file_->check_unchanged(); }

  private:
    // Sorted, apart from one another, none empty.
    struct Blocks {
        std::vector<std::uint32_t> starts;
        std::vector<std::uint32_t> sizes;
    };

    struct Record {
        std::int64_t packed = 0;  // offset of the first packed base
        Blocks unknown;
        Blocks masked;  // empty unless case is kept
    };

    void read_contigs(bool keep_case) {
        detail::TwoBitCursor cursor(*file_, 4, swap_);
        const std::int64_t version = cursor.word();
        const std::int64_t count = cursor.word();
        if (version > 1)
            throw malformed_input("2bit version " + std::to_string(version) + "; 0 and 1 are read");
        if (cursor.word() != 0) throw malformed_input("the 2bit header's last number is not 0");
        const std::int64_t least = version == 0 ? 5 : 9;
        if (count > cursor.left() / least) {
            throw truncated_input("the 2bit file is cut short: it says that it has " + std::to_string(count) +
                                  " sequences");
        }
        contigs_.reserve(static_cast<std::size_t>(count));
        records_.reserve(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i) {
            std::array<std::uint8_t, 255> name;
            std::uint8_t name_size = 0;
            cursor.bytes({&name_size, 1});
            cursor.bytes(std::span(name).first(name_size));
            const std::int64_t offset = version == 0 ? cursor.word() : cursor.long_word();
            contigs_.push_back({std::string(name.begin(), name.begin() + name_size), 0});
            read_record(offset, keep_case);
        }
    }

    void read_record(std::int64_t offset, bool keep_case) {
        Contig& contig = contigs_.back();
        Record& record = records_.emplace_back();
        if (offset > file_->size()) throw truncated_input("the 2bit file is cut short: no " + contig.name);
        detail::TwoBitCursor cursor(*file_, offset, swap_);
        contig.length = cursor.word();
        record.unknown = read_blocks(cursor, contig, true);
        record.masked = read_blocks(cursor, contig, keep_case);
        if (cursor.word() != 0)
            throw malformed_input("2bit contig " + contig.name + ": the number before its bases is not 0");
        record.packed = cursor.offset();
        cursor.skip((contig.length + 3) / 4);
    }

    static Blocks read_blocks(detail::TwoBitCursor& cursor, const Contig& contig, bool is_needed) {
        const std::int64_t count = cursor.word();
        if (!is_needed) {
            cursor.skip(8 * count);
            return {};
        }
        Blocks blocks{cursor.words(count), {}};
        blocks.sizes = cursor.words(count);
        std::int64_t end = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const bool follows = blocks.starts[i] >= end;
            end = std::int64_t{blocks.starts[i]} + blocks.sizes[i];
            if (!follows || end > contig.length) {
                throw malformed_input("2bit contig " + contig.name +
                                      ": its blocks of N or lower case overlap, are not sorted, or reach "
                                      "behind its end");
            }
        }
        return blocks;
    }

    void unpack(std::int64_t packed, const Region& region, std::uint8_t* out) const {
        constexpr std::int64_t piece_bytes = 1 << 16;
        thread_local std::unique_ptr<std::uint8_t[]> buffer(new std::uint8_t[piece_bytes]);
        const std::int64_t last = (region.end + 3) / 4;
        for (std::int64_t byte = region.start / 4; byte < last; byte += piece_bytes) {
            const std::int64_t count = std::min(piece_bytes, last - byte);
            file_->read(packed + byte, {buffer.get(), static_cast<std::size_t>(count)});
            for (std::int64_t i = 0; i < count; ++i) {
                const std::array<std::uint8_t, 4>& letters = detail::unpacked[buffer[i]];
                const std::int64_t place = 4 * (byte + i) - region.start;
                if (place >= 0 && place + 4 <= region.length()) {
                    std::memcpy(out + place, letters.data(), 4);
                    continue;
                }
                for (std::int64_t j = 0; j < 4; ++j) {
                    if (place + j >= 0 && place + j < region.length()) out[place + j] = letters[j];
                }
            }
        }
    }

    // Calls use(begin, end) for what of each block lies in the region, counted from the region's start.
    template <typename Use>
    static void for_each_block(const Blocks& blocks, const Region& region, Use&& use) {
        auto next = std::ranges::upper_bound(blocks.starts, region.start) - blocks.starts.begin();
        if (next > 0) --next;
        for (; next < std::ssize(blocks.starts) && blocks.starts[next] < region.end; ++next) {
            const std::int64_t start = blocks.starts[next];
            const std::int64_t begin = std::max(start, region.start) - region.start;
            const std::int64_t end = std::min(start + blocks.sizes[next], region.end) - region.start;
            if (begin < end) use(begin, end);
        }
    }

    std::unique_ptr<ByteSource> file_;
    bool swap_ = false;
    std::vector<Record> records_;
};

}  // namespace fastgenome
