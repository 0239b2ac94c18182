"""Damaged genomes and indexes: nothing cut, stale or made up is ever read as if it were whole."""

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest
from genome_files import bgzf, cleaned, random_letters, two_bit, wrapped, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastgenome.bgzf import BgzfFile
from fastgenome.errors import FastgenomeError, InputError, TruncatedInputError
from fastgenome.genome import Genome, build_index

DRAW = random.Random(5)
CONTIGS = {"one": random_letters(DRAW, 130, "ACGTN"), "two": "", "three": random_letters(DRAW, 61, "ACGTN")}
TEXT = "".join(f">{name} words\n" + wrapped(letters, 60) for name, letters in CONTIGS.items())
REGIONS = [(name, 0, len(letters)) for name, letters in CONTIGS.items()]


# samtools leaves contigs without letters out of its index.
INDEXED = {"fai": {"one": CONTIGS["one"], "three": CONTIGS["three"]}, "fgi": CONTIGS}


def read_all(path: Path, **options: bool) -> dict[str, str]:
    genome = Genome(path, **options)
    return dict(zip(genome.names, genome.fetch_many((n, 0, None) for n in genome.names), strict=True))


def samtools_index(path: Path) -> Path:
    pysam.faidx(str(path))
    return path.with_name(path.name + ".fai")


@pytest.mark.parametrize("index", [samtools_index, build_index], ids=["fai", "fgi"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "bgzf"])
def test_index_cut_at_any_byte_is_an_error(
    tmp_path: Path, index: Callable[[Path], Path], zipped: bool
) -> None:
    content = bgzf(TEXT.encode(), 50) if zipped else TEXT.encode()
    path = write(tmp_path / "x.fa.gz", content)
    beside = index(path)
    whole = beside.read_bytes()
    assert read_all(path) == INDEXED[beside.suffix[1:]]
    for size in range(len(whole)):
        beside.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"build_index|does not fit the file") as caught:
            Genome(path)
        if beside.suffix == ".fai":
            assert (caught.type is TruncatedInputError) == (not whole[:size].endswith(b"\n"))


@pytest.mark.parametrize("index", [samtools_index, build_index], ids=["fai", "fgi"])
def test_fasta_cut_at_any_byte_does_not_fit_its_index(tmp_path: Path, index: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "x.fa", TEXT)
    beside = index(path)
    now = path.stat()
    for size in range(len(TEXT)):
        path.write_text(TEXT[:size])
        os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))
        os.utime(beside)
        if size == len(TEXT) - 1 and beside.suffix == ".fai":
            # All bases are there; only the last newline is not.
            assert read_all(path) == INDEXED["fai"]
            continue
        with pytest.raises(InputError):
            Genome(path)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("soft_masked", [False, True])
def test_two_bit_cut_at_any_byte_is_an_error(
    tmp_path: Path, order: str, version: int, in_memory: bool, soft_masked: bool
) -> None:
    contigs = {"one": "ACGTNNNacgtTGCATTnnnA", "two": "AC", "three": "GATTACAGA"}
    content = two_bit(contigs, order, version)
    path = tmp_path / "x.2bit"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError):
            Genome(path, in_memory=in_memory, soft_masked=soft_masked)
    path.write_bytes(content)
    assert read_all(path, soft_masked=True, in_memory=in_memory) == contigs


@pytest.mark.parametrize("in_memory", [False, True])
def test_bgzf_cut_at_any_byte_is_an_error(tmp_path: Path, in_memory: bool) -> None:
    content = bgzf(TEXT.encode(), 50)
    path = write(tmp_path / "x.fa.gz", content)
    build_index(path)
    assert read_all(path, in_memory=in_memory) == CONTIGS
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(InputError) as caught:
            Genome(path, in_memory=in_memory)
        if size >= 18 and in_memory:
            assert caught.type is TruncatedInputError, size
        if size >= 18:
            with pytest.raises(TruncatedInputError, match="the last block of BGZF is missing"):
                BgzfFile(path)


@pytest.mark.parametrize("size", [0, 1, 20, 0xFFFF])
def test_bgzf_block_of_impossible_size_is_an_error(tmp_path: Path, size: int) -> None:
    content = bytearray(bgzf(TEXT.encode(), 50))
    content[16:18] = size.to_bytes(2, "little")
    path = write(tmp_path / "x.fa.gz", bytes(content))
    with pytest.raises(InputError):
        BgzfFile(path)


def test_damaged_bgzf_block_is_an_error(tmp_path: Path) -> None:
    content = bytearray(bgzf(TEXT.encode(), 50))
    path = write(tmp_path / "x.fa.gz", bytes(content))
    build_index(path)
    state = path.stat()
    content[25] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(InputError, match=r"damaged block at byte 0|stale"):
        read_all(path)
    with pytest.raises(InputError, match="damaged block at byte 0"):
        BgzfFile(path).read(0, 10)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), block=st.integers(1, 90), data=st.data())
def test_bgzf_is_read_at_any_place(tmp_path: Path, content: bytes, block: int, data: st.DataObject) -> None:
    file = BgzfFile(write(tmp_path / "x", bgzf(content, block)))
    assert file.size == len(content)
    for _ in range(5):
        start = data.draw(st.integers(0, len(content)))
        size = data.draw(st.integers(0, 200))
        assert file.read(start, size) == content[start : start + size]


def test_fai_older_than_the_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", TEXT)
    beside = samtools_index(path)
    os.utime(beside, ns=(0, path.stat().st_mtime_ns - 1))
    with pytest.raises(InputError, match=r"x.fa.fai is older than .*build_index\("):
        Genome(path)
    build_index(path)
    assert read_all(path) == CONTIGS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "A\n", "stale: the size of"),
        (lambda text: text.replace("words", "WORDS"), "stale: the content of"),
        (lambda text: text, "stale: the time of the last change"),
    ],
    ids=["longer", "edited", "touched"],
)
def test_own_index_of_another_state_is_an_error(
    tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    path = write(tmp_path / "x.fa", TEXT)
    assert read_all(path) == CONTIGS
    state = path.stat()
    path.write_text(change(TEXT))
    later = 1 if change(TEXT) == TEXT else 0
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + later))
    with pytest.raises(InputError, match=message + r".*make it anew: fastgenome.genome.build_index\("):
        Genome(path)
    path.write_text(TEXT)
    build_index(path)
    assert read_all(path) == CONTIGS


@pytest.mark.parametrize(
    "lines",
    [
        ["one\t130\t11\t60\t61"],
        ["one\t130\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t167\t60\t61"],
        ["one\t129\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t131\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t130\t11\t61\t62", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["ONE\t130\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["on\t130\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t130\t11\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61", "four\t1\t231\t1\t2"],
        ["one\t130\t11\t60\t60", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t130\t11\t0\t0", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        [f"one\t{2**59}\t11\t{2**59}\t{2**59 + 1}", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        [f"one\t130\t{2**59}\t60\t61", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t130\t11\t60\t61", "two\t0\t155\t0\t0", f"three\t61\t168\t{2**59}\t{2**59 + 1}"],
        ["one\t999999999999999999\t11\t1\t3", "two\t0\t155\t0\t0", "three\t61\t168\t60\t61"],
        ["one\t-130\t11\t60\t61"],
        ["one\t1_30\t11\t60\t61"],
        ["one\t130\t11\t60"],
        ["one\t9999999999999999999\t11\t60\t61"],
        [""],
    ],
)
def test_fai_that_does_not_fit_is_an_error(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path / "x.fa", TEXT)
    beside = samtools_index(path)
    two = "two\t0\t155\t0\t0\n"
    assert beside.read_text() == "one\t130\t11\t60\t61\nthree\t61\t168\t60\t61\n"
    beside.write_text("one\t130\t11\t60\t61\n" + two + "three\t61\t168\t60\t61\n")
    assert read_all(path) == CONTIGS
    beside.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"does not fit the file|not a name and four numbers"):
        read_all(path)


def test_line_of_another_length_behind_a_fitting_index_is_an_error(tmp_path: Path) -> None:
    """The ends of the contig fit; only reading can tell that a line within is another."""
    text = ">c\n" + "A" * 60 + "\n" + "C" * 60 + "\n" + "G" * 60 + "\n"
    path = write(tmp_path / "x.fa", text)
    beside = samtools_index(path)
    path.write_text(text.replace("A\nC", "\nCC"))
    os.utime(beside)
    genome = Genome(path)
    assert genome.fetch("c", 121, 180) == "G" * 59
    for region in ((0, 180), (58, 61), (59, 60)):
        with pytest.raises(InputError, match=r"a line is not as long as it says|is not a nucleotide"):
            genome.fetch("c", *region)


def damaged_two_bit(**changes: int) -> bytes:
    """One contig of 21 bases with two blocks of N; the words of the file by name may be changed."""
    words = {
        **{"signature": 0x1A412743, "version": 0, "count": 1, "reserved": 0},
        **{"name": 0x00006302 | 0x63 << 16, "offset": 23, "bases": 21},
        **{"blocks": 2, "start0": 3, "start1": 9, "size0": 4, "size1": 2},
        **{"masks": 1, "mask_start": 1, "mask_size": 20, "zero": 0},
    }
    words |= changes
    values = list(words.values())
    header = struct.pack("<4I", *values[:4]) + b"\x02cc" + struct.pack("<I", words["offset"])
    return header + struct.pack(f"<{len(values) - 6}I", *values[6:]) + bytes(6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2; 0 and 1 are read"),
        ({"reserved": 1}, "last number is not 0"),
        ({"zero": 1}, "the number before its bases is not 0"),
        ({"count": 2**32 - 1}, "it says that it has 4294967295 sequences"),
        ({"count": 2}, "cut short"),
        ({"offset": 2**32 - 1}, "cut short: no cc"),
        ({"bases": 2**32 - 1}, "cut short"),
        ({"blocks": 2**32 - 1}, "cut short: 17179869180 bytes should follow"),
        ({"blocks": 3}, "cut short|overlap"),
        ({"masks": 2**32 - 1}, "cut short"),
        ({"start1": 6}, "overlap, are not sorted"),
        ({"start0": 10}, "overlap, are not sorted"),
        ({"size1": 13}, "reach behind its end"),
        ({"size1": 2**32 - 1}, "reach behind its end"),
        ({"start1": 2**32 - 1}, "reach behind its end"),
        ({"mask_size": 21}, "reach behind its end"),
    ],
    ids=str,
)
def test_two_bit_with_impossible_numbers_is_an_error(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    path = write(tmp_path / "x.2bit", damaged_two_bit())
    assert Genome(path).fetch("cc") == "TTTNNNNTTNN" + "T" * 10
    path.write_bytes(damaged_two_bit(**change))
    with pytest.raises(InputError, match=message):
        Genome(path, soft_masked=True)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(["2bit", "fasta", "bgzf"]),
    edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 400),
    soft_masked=st.booleans(),
    in_memory=st.booleans(),
)
def test_random_damage_is_an_error_or_another_genome(
    tmp_path: Path,
    base: str,
    edits: list[tuple[int, int]],
    cut: int,
    soft_masked: bool,
    in_memory: bool,
) -> None:
    """Whatever the bytes: an error of ours, or what a second way to read the same bytes gives."""
    whole = {"2bit": two_bit({"a": "ACGTNNacgt" * 9, "b": "GAT"}), "bgzf": bgzf(TEXT.encode(), 70)}
    content = bytearray(whole.get(base, TEXT.encode()))
    for place, value in edits:
        content[place % len(content)] = value
    path = write(tmp_path / "x", bytes(content[:cut] if cut < 300 else content))
    for beside in tmp_path.glob("x.*"):
        beside.unlink()
    try:
        read = read_all(path, soft_masked=soft_masked)
    except FastgenomeError:
        return
    assert read_all(path, soft_masked=soft_masked, in_memory=True) == read


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=">aACGTN \t\r\n", max_size=60), size=st.integers(1, 9))
def test_random_fasta_is_the_same_by_index_and_in_memory(
    tmp_path: Path, text: str, size: int, request: pytest.FixtureRequest
) -> None:
    path = write(tmp_path / "x.fa", text)
    (tmp_path / "x.fa.fgi").unlink(missing_ok=True)
    try:
        by_index = read_all(path)
    except InputError:
        return
    assert read_all(path, in_memory=True) == by_index
    headers = [line for line in text.split("\n") if line.startswith(">")]
    assert list(by_index) == [header[1:].split()[0] for header in headers]
    bodies = ("\n" + text).split("\n>")[1:]
    bodies = ["".join(body.split("\n")[1:]).replace("\r", "") for body in bodies]
    assert list(by_index.values()) == [cleaned(body) for body in bodies]
