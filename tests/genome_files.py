"""Files of genomes made byte by byte, for the tests of genomes; nothing here uses the package."""

import random
import struct
import zlib
from pathlib import Path

EMPTY_BGZF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def random_letters(draw: random.Random, length: int, letters: str = "ACGTNacgtnRYKMURYukm") -> str:
    return "".join(draw.choices(letters, k=length))


def cleaned(letters: str, soft_masked: bool = False) -> str:
    """The rules for a genome, one letter at a time."""

    def clean(letter: str) -> str:
        upper = letter.upper()
        new = upper if upper in "ACGT" else "T" if upper == "U" else "N"
        return new.lower() if soft_masked and letter.islower() else new

    return "".join(map(clean, letters))


def wrapped(letters: str, width: int, line_end: str = "\n") -> str:
    return "".join(letters[i : i + width] + line_end for i in range(0, len(letters), width))


def bgzf(content: bytes, block: int) -> bytes:
    """Compress as BGZF, whose gzip members tell their sizes, with the empty last block."""
    blocks = []
    for first in range(0, len(content), block):
        part = content[first : first + block]
        deflate = zlib.compressobj(wbits=-15)
        body = deflate.compress(part) + deflate.flush()
        header = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
        blocks.append(header + body + struct.pack("<2I", zlib.crc32(part), len(part)))
    return b"".join(blocks) + EMPTY_BGZF_BLOCK


def runs(letters: str, wanted: str) -> list[tuple[int, int]]:
    """(start, size) of the longest stretches of wanted letters."""
    found, start = [], None
    for position, letter in enumerate(letters + "\0"):
        if letter in wanted and start is None:
            start = position
        elif letter not in wanted and start is not None:
            found.append((start, position - start))
            start = None
    return found


def two_bit(contigs: dict[str, str], order: str = "<", version: int = 0) -> bytes:
    """A 2bit file of A, C, G, T and N in either case, written as UCSC describes the format."""
    offset_code = "I" if version == 0 else "Q"
    index_size = sum(1 + len(name) + struct.calcsize("<" + offset_code) for name in contigs)
    header = struct.pack(order + "4I", 0x1A412743, version, len(contigs), 0)
    index, records = b"", b""
    for name, letters in contigs.items():
        offset = len(header) + index_size + len(records)
        index += bytes([len(name)]) + name.encode() + struct.pack(order + offset_code, offset)
        records += struct.pack(order + "I", len(letters))
        for blocks in (runs(letters, "Nn"), runs(letters, "acgtn")):
            starts, sizes = [start for start, _ in blocks], [size for _, size in blocks]
            records += struct.pack(f"{order}I{2 * len(blocks)}I", len(blocks), *starts, *sizes)
        records += struct.pack(order + "I", 0)
        codes = ["TCAGN".index(letter) & 3 for letter in letters.upper()]
        codes += [0] * (-len(codes) % 4)
        records += bytes(
            codes[i] << 6 | codes[i + 1] << 4 | codes[i + 2] << 2 | codes[i + 3]
            for i in range(0, len(codes), 4)
        )
    return header + index + records


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    return path
