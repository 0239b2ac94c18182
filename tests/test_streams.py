"""Where bytes come from: gzip of every kind, damage to it, standard input, pipes and files."""

import gzip
import io
import os
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from genome_files import bgzf

from fastgenome.errors import InputError, TruncatedInputError
from fastgenome.sequences import read_sequences

FASTA = b"".join(b">%d\n%s\n" % (number, b"ACGTTGCA" * (number % 7 + 1)) for number in range(200))
RECORDS = [(str(number), "ACGTTGCA" * (number % 7 + 1)) for number in range(200)]


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(FASTA),
        gzip.compress(FASTA[:700]) + gzip.compress(FASTA[700:]),
        gzip.compress(FASTA[:9]) + gzip.compress(b"") + gzip.compress(FASTA[9:]) + gzip.compress(b""),
        gzip.compress(FASTA) + b"\0" * 1000,
        bgzf(FASTA, 100),
    ],
    ids=["one", "two", "with-empty", "padded", "bgzf"],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_all_gzip_members_are_read(content: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgenome.streams._READ_BYTES", size)
    monkeypatch.setattr("fastgenome.streams._INFLATED_BYTES", 64)
    assert gzip.decompress(content) == FASTA
    reader = read_sequences(io.BytesIO(content), format="fasta")
    assert [(record.id, record.sequence) for record in reader] == RECORDS


@pytest.mark.parametrize(
    "content",
    [gzip.compress(FASTA[:300]), bgzf(FASTA[:300], 100)],
    ids=["gzip", "bgzf"],
)
@pytest.mark.parametrize("format", ["fasta", "text"])
def test_gzip_cut_at_any_byte_is_an_error(content: bytes, format: str) -> None:
    for size in range(len(content)):
        with pytest.raises(InputError) as caught:
            list(read_sequences(io.BytesIO(content[:size]), format=format))
        assert size < 2 or caught.type is TruncatedInputError, size


def test_second_member_cut_is_an_error() -> None:
    content = gzip.compress(FASTA[:700]) + gzip.compress(FASTA[700:])[:-1]
    with pytest.raises(TruncatedInputError, match="cut short"):
        list(read_sequences(io.BytesIO(content), format="fasta"))


@pytest.mark.parametrize("garbage", [b"x", b"garbage", b"\0\0garbage", b"\x1f\x8c"])
@pytest.mark.parametrize("size", [1, 1 << 18])
def test_garbage_after_gzip_is_an_error(garbage: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgenome.streams._READ_BYTES", size)
    with pytest.raises(InputError, match="bytes after its gzip data"):
        list(read_sequences(io.BytesIO(gzip.compress(FASTA) + garbage), format="fasta"))


def test_damaged_gzip_is_an_error() -> None:
    content = bytearray(gzip.compress(FASTA))
    content[-6] ^= 1
    with pytest.raises(InputError, match="damaged gzip data"):
        list(read_sequences(io.BytesIO(bytes(content)), format="fasta"))


def test_highly_compressed_gzip_is_inflated_in_pieces() -> None:
    content = gzip.compress(b">a\n" + b"A" * 30_000_000)
    assert len(content) < 1 << 18
    assert list(read_sequences(io.BytesIO(content))) == [("a", "A" * 30_000_000, ())]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"id\tsequence\n1\tACGT\n"))))
    reader = read_sequences("-")
    assert list(reader) == [("1", "ACGT", ())]
    with pytest.raises(InputError, match="standard input can be read only once"):
        list(reader)


@pytest.mark.parametrize("format", ["fasta", "parquet"])
def test_pipe_is_read_once_and_whole(tmp_path: Path, format: str) -> None:
    content = FASTA
    if format == "parquet":
        file = io.BytesIO()
        ids, sequences = zip(*RECORDS, strict=True)
        parquet.write_table(pa.table({"id": ids, "sequence": sequences}), file)
        content = file.getvalue()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(content,))
    feeder.start()
    reader = read_sequences(pipe)
    assert [(record.id, record.sequence) for record in reader] == RECORDS
    feeder.join()
    with pytest.raises(InputError, match="only once"):
        list(reader)


def test_file_is_read_again_and_its_bytes_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(FASTA))
    reader = read_sequences(path)
    assert list(reader) == list(reader)
    assert reader.bytes_read == reader.bytes_total == path.stat().st_size


@pytest.mark.filterwarnings("error")
def test_file_is_closed_when_the_reading_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(FASTA)
    before = len(os.listdir("/proc/self/fd"))
    batches = read_sequences(path).batches(10)
    next(batches)
    batches.close()
    assert len(os.listdir("/proc/self/fd")) == before
