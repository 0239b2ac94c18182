"""Writes the first inputs of the fuzz targets: python tests/fuzz/make_corpus.py FOLDER

One folder per target. An input is the parameters that the target reads first and then its text; here they are
small, ordinary and different, and the fuzzer makes the rest of them.
"""

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

ODD_TEXTS = [
    b"",
    b"A",
    b"ACGTACGTNNACGTTGCA",
    b"acgtnACGTrykmswbdhv",
    b"ACGU ACGU\n",
    b"AC-GT.AC\tGT\r\n",
    b"ACGTU*\x00\xff\x85\xa0",
    bytes(range(256)),
]
FASTA = b">one first record\nACGT\nACGT\n\n>two\r\nAC\r\n>\n>three\tx\nNN  \n"
FASTQ = b"@one\nACGT\n+\nIIII\n@two x\nAC\n+two\nI\n\n@three\n\n+\n\n"
TWO_HUNDRED = bytes(random.Random(1).choices(b"ACGT", k=200))


def dna_texts() -> Iterator[bytes]:
    """DNA around the sizes of the core's blocks, with and without odd letters in it."""
    chosen = random.Random(2)
    for size in (5, 6, 7, 63, 64, 65, 200, 1023, 1024, 1025, 1090):
        text = bytearray(chosen.choices(b"ACGT", k=size))
        yield bytes(text)
        text[chosen.randrange(size)] = ord("N")
        yield bytes(text)


def cleaning() -> Iterator[bytes]:
    """Instruction set, text."""
    for number, text in enumerate([*ODD_TEXTS, *dna_texts()]):
        yield bytes([number % 3]) + text


def characters() -> Iterator[bytes]:
    """Instruction set, width of ids, whether ids are large, step, threads, text."""
    for number, text in enumerate([*ODD_TEXTS, *dna_texts()]):
        for width in range(4):
            yield bytes([number % 3, width, number % 2, 7, 249 if number % 5 == 0 else 0]) + text


def sliding_kmers() -> Iterator[bytes]:
    """Instruction set, width of ids, k − 1, stride − 1, order of ids and threads, text."""
    for number, text in enumerate([*ODD_TEXTS, *dna_texts()]):
        for place, (k, stride) in enumerate(((6, 1), (3, 1), (8, 3), (5, 31))):
            flags = 248 + number % 8 if number % 5 == 0 else number % 2
            yield bytes([number % 3, (number + place) % 4, k - 1, stride - 1, flags]) + text


def block_kmers() -> Iterator[bytes]:
    """Instruction set, width of ids, k − 1, text."""
    for number, text in enumerate([*ODD_TEXTS, *dna_texts()]):
        for k in (6, 3):
            yield bytes([number % 3, (number + k) % 4, k - 1]) + text


def bpe() -> Iterator[bytes]:
    """Instruction set, whether long, parts − 2, letters − 1, order of ids, merges, text."""
    chosen = random.Random(3)
    for letters in (1, 2, 4, 5):
        for kinds in (range(0, 200), range(0, 256)):
            for count in (0, 1, 3, 12, 40):
                merges = bytes(
                    byte
                    for _ in range(count)
                    for byte in (chosen.choice(kinds), chosen.randrange(256), chosen.randrange(256))
                )
                # Long texts take long: they stay a small share.
                for is_long in (0, 255) if count == 12 else (0,):
                    first = bytes([chosen.randrange(3), is_long, chosen.randrange(8)])
                    head = first + bytes([letters - 1, chosen.randrange(2), count])
                    yield head + merges + bytes(chosen.randrange(230) for _ in range(60))
                    yield head + merges + b"\x00\x01" * 30


def batch() -> Iterator[bytes]:
    """Instruction set, flags, texts with 0xFF between them."""
    text = b"ACGT\xffacgtnn\xff\xff\x00\x01\x02\x00\x01\x02\x03\x04\x05\xffAC-GTU\xff" + TWO_HUNDRED
    for flags in (0, 1, 2, 3, 4, 8, 14, 15, 250, 251, 254, 255):
        yield bytes([flags % 3, flags]) + text


def features() -> Iterator[bytes]:
    """Instruction set, k − 2, phases − 1, whether long, window, stride, text."""
    chosen = random.Random(4)
    for k in (2, 3):
        for phases in (1, 2, 3, 4):
            for size in (0, 2, 70, 1030):
                yield bytes([k + phases & 3, k - 2, phases - 1, 0]) + chosen.randbytes(2 + size)
                # Twelve times the first is the window, the product of the next two the stride.
                for window, stride in ((249, 7), (20, 90), (3, 255)):
                    head = bytes([k + phases & 3, k - 2, phases - 1, 255, window, stride, phases])
                    yield head + chosen.randbytes(size)


def kmer_rows() -> Iterator[bytes]:
    """Instruction set, type, whether long, k − 1, map, whether frequencies, window, stride, text."""
    chosen = random.Random(7)
    for number, size in enumerate((0, 3, 70, 400, 1030)):
        for k in (1, 2, 3, 4, 6):
            for column_map in range(3):
                for is_long in (0, 255):
                    head = [
                        (k + number) % 3,
                        (k + column_map) % 2,
                        is_long,
                        k - 1,
                        column_map,
                        number + k & 1,
                    ]
                    yield bytes([*head, 30 + number, 5 * k, number]) + chosen.randbytes(size)


def curves() -> Iterator[bytes]:
    """Instruction set, steps of A, C, G and T + 128, text."""
    chosen = random.Random(8)
    for steps in ((1, -1, 1, -1), (0, -1, 1, 0), (-128, 127, 5, 0)):
        for size in (0, 1, 2, 3, 70, 1030):
            yield bytes([size % 3, *(step + 128 for step in steps)]) + chosen.randbytes(size)


def sequences() -> Iterator[bytes]:
    """Instruction set, format, size of pieces, spread of sizes, file."""
    for number, text in enumerate(fasta_files()):
        yield bytes([number % 3, 0, number * 7 % 160, number % 32]) + text
    for step in (0, 6, 63):
        for text in (FASTA, b"\xef\xbb\xbf" + FASTA, FASTA[:-1], b">a\rACGT\r", b"ACGT\n", b""):
            yield bytes([step % 3, 0, step, 3]) + text
        for text in (FASTQ, FASTQ[:-1], FASTQ[:20], b"@a\nAC\nGT\n+\nIIII\n", b"x"):
            yield bytes([step % 3, 1, step, 3]) + text


def fasta_files() -> Iterator[bytes]:
    """Two contigs in lines around the size of a register, and a third without letters."""
    chosen = random.Random(5)
    for width in (1, 7, 60, 64, 70, 100):
        for end in (b"\n", b"\r\n"):
            lines = [bytes(chosen.choices(b"ACGTNacgtu", k=n)) for n in (width, width, (width + 1) // 2)]
            text = b"".join(line + end for name in (b">one x", b">two") for line in (name, *lines))
            yield text
            yield text[: -len(end)]
            yield text + b">three" + end


def indexed_fasta() -> Iterator[bytes]:
    """Instruction set, case, size of pieces, which number is wrong and by how much, file."""
    for number, text in enumerate(fasta_files()):
        yield bytes([number % 3, number % 2, number * 3 % 80, number * 5 % 256, number * 37 % 256]) + text


def two_bit() -> Iterator[bytes]:
    """Instruction set, flags, file; with flag 2, layout and letters of a sound one."""
    chosen = random.Random(6)
    for number, size in enumerate((0, 1, 4, 10, 37, 200)):
        for order in "<>":
            record = struct.pack(f"{order}4I", size, 0, 0, 0) + chosen.randbytes((size + 3) // 4)
            header = (
                struct.pack(f"{order}4I", 0x1A412743, 0, 1, 0) + b"\x03one" + struct.pack(f"{order}I", 24)
            )
            yield bytes([number % 3, number % 2]) + header + record
        for flags in (2, 3):
            yield bytes([number % 3, flags, number % 2, number // 2 % 2]) + chosen.randbytes(size)


TARGETS = (
    *(cleaning, characters, sliding_kmers, block_kmers, bpe, batch, features, kmer_rows, curves),
    *(sequences, indexed_fasta, two_bit),
)


def main(folder: Path) -> None:
    """Writes the inputs of all targets below `folder`."""
    for target in TARGETS:
        own = folder / target.__name__
        own.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(target()):
            (own / f"{number:03}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
