"""Any bytes as a file give a result or a FastgenomeError, nothing else: the readers written in Python.

The first byte chooses the reader: genomes, their indexes, BGZF, BED, VCF, sequences. Run by python_target.py.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import python_target

with python_target.watched(
    *(f"fastgenome.{name}" for name in ("bed", "bgzf", "formats", "genome", "genome_index", "sequences")),
    *(f"fastgenome.{name}" for name in ("streams", "tables", "variants")),
):
    from fastgenome import bed, bgzf, errors, genome, genome_index, sequences, streams, variants

try:
    import pysam
except ImportError:
    pysam = None
else:
    pysam.set_verbosity(0)

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
FASTA = b">one x\nACGTAC\nGTNNAC\nAC\n>two\nacgt\n"
FAI = b"one\t14\t7\t6\t7\ntwo\t4\t29\t4\t5\n"
BED = b"track x\n#c\none\t0\t5\ta\t0\t+\ntwo 1 3\n\none\t2\t9\n"
VCF = (
    b"##fileformat=VCFv4.2\n##contig=<ID=one,length=14>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    b"one\t3\trs1\tG\tA,<DEL>\t.\tPASS\t.\none\t5\t.\tAC\tA\t9\t.\t.\n"
)
FASTQ = b"@one\nACGT\n+\nIIII\n@two x\nAC\n+two\nI!\n"
TABLE = b"sequence,label\nACGT,1\nNNA,0\n"
# The time of the last change of every file here, so that an index can fit.
MODIFIED_NS = 1_700_000_000 * 10**9


def in_blocks(content: bytes, size: int = 20) -> bytes:
    """A BGZF file with blocks of so many bytes, and the empty one at its end."""
    blocks = []
    for begin in range(0, len(content) + size, size):
        part = content[begin : begin + size]
        packed = zlib.compress(part, wbits=-15)
        header = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(packed) + 25)
        blocks.append(header + packed + struct.pack("<II", zlib.crc32(part), len(part)))
    end = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    return b"".join(blocks[:-1]) + end


def place(name: str, content: bytes) -> Path:
    """A file of that content."""
    path = FOLDER / name
    path.write_bytes(content)
    os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
    return path


def without_index(name: str, content: bytes) -> Path:
    """A file beside which no index stands."""
    path = place(name, content)
    for ending in (".fgi", ".fai"):
        with suppress(FileNotFoundError):
            (FOLDER / (name + ending)).unlink()
    return path


def read_genome(path: Path, **options: bool) -> None:
    """Opens a genome and reads the ends of its contigs."""
    opened = genome.Genome(path, **options)
    for name, length in zip(opened.names, opened.lengths.tolist(), strict=True):
        assert len(opened.fetch(name, max(0, length - 10))) == min(length, 10)
        assert len(opened.fetch(name, 0, min(length, 10))) == min(length, 10)


def read_bgzf(data: bytes) -> None:
    """All of a file, and what its headers say of its size."""
    file = bgzf.BgzfFile(place("blocks.gz", data))
    assert len(file.read(0, file.size)) == file.size


def read_stream(data: bytes) -> None:
    """Plain or gzip: what comes is what the library of the language gives."""
    with streams.ByteStream(io.BytesIO(data)) as stream:
        content = b"".join(stream)
    if data.startswith(b"\x1f\x8b"):
        # Zeros behind the last member are no part of it.
        assert content == gzip.decompress(data)
    else:
        assert content == data


def read_index_beside(ending: str) -> Callable[[bytes], None]:
    """Bytes as the index of a sound file."""

    def read(data: bytes) -> None:
        path = without_index("indexed.fa", FASTA)
        place("indexed.fa" + ending, data)
        read_genome(path)

    return read


def read_bed(data: bytes) -> None:
    """Strict, and with the defects told."""
    path = place("regions.bed", data)
    regions = list(bed.read_bed(path, strict=False))
    is_sound = not any(region.defect for region in regions)
    try:
        assert list(bed.read_bed(path)) == regions
        assert is_sound
    except errors.InputError:
        assert not is_sound


def read_vcf(data: bytes) -> None:
    """Where pysam is installed."""
    if pysam is not None:
        list(variants.read_variants(place("variants.vcf", data)))


def read_records(data: bytes) -> None:
    """The format goes by the bytes; a second reading gives the same."""
    path = place("records", data)
    assert list(sequences.read_sequences(path)) == list(sequences.read_sequences(path))


READERS: list[Callable[[bytes], None]] = [
    lambda data: read_genome(without_index("genome.fa", data)),
    lambda data: read_genome(without_index("genome.fa", data), in_memory=True),
    read_index_beside(".fai"),
    read_index_beside(".fgi"),
    read_bgzf,
    read_stream,
    read_bed,
    read_vcf,
    read_records,
]


def check(data: bytes) -> None:
    """Reads bytes as the first of them says; anything but the two outcomes is raised."""
    if not data:
        return
    with suppress(errors.FastgenomeError):
        READERS[data[0] % len(READERS)](data[1:])


def first_inputs() -> list[bytes]:
    """Sound files for each reader, plain and compressed."""
    path = without_index("indexed.fa", FASTA)
    genome.build_index(path)
    index = (FOLDER / "indexed.fa.fgi").read_bytes()
    assert genome_index.read_index(FOLDER / "indexed.fa.fgi", path).names == [b"one", b"two"]
    two_bit = (
        struct.pack("<4I", 0x1A412743, 0, 1, 0)
        + b"\x03one"
        + struct.pack("<5I", 24, 6, 0, 0, 0)
        + b"\x1b\x1b"
    )
    plain = [
        [FASTA, two_bit],
        [FASTA, two_bit],
        [FAI],
        [index],
        [],
        [FASTA],
        [BED],
        [VCF],
        [FASTA, FASTQ, TABLE],
    ]
    inputs = []
    for reader, files in enumerate(plain):
        packed = [make(file) for file in files or [FASTA] for make in (in_blocks, gzip.compress)]
        inputs += [bytes([reader]) + content for content in (*files, *packed, b"")]
    return inputs


if __name__ == "__main__":
    try:
        python_target.main(check, first_inputs())
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
