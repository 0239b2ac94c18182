"""Genomes: every format against independent readers, threads, processes, and coordinates beyond 32 bits."""

import gzip
import multiprocessing
import os
import pickle
import random
import shutil
import struct
import threading
from pathlib import Path

import numpy as np
import pyfaidx
import pysam
import pytest
import twobitreader
from genome_files import bgzf, cleaned, random_letters, two_bit, wrapped, write

from fastgenome import _core
from fastgenome.errors import ArgumentError, InputError
from fastgenome.genome import Genome, build_index

Contigs = dict[str, str]
BASES = "ACGTNacgtn"


def random_contigs(draw: random.Random, letters: str = "ACGTNacgtnRYKMryuU-.") -> Contigs:
    """A few contigs, some of them shorter than a line, one empty now and then."""
    lengths = draw.choices([0, 1, 3, 59, 60, 61, 120, 500, 5000], k=draw.randint(1, 5))
    return {f"c{i}": random_letters(draw, length, letters) for i, length in enumerate(lengths)}


def fasta(draw: random.Random, contigs: Contigs) -> str:
    """FASTA whose lines are, contig by contig, equally long; everything else is drawn."""
    text = ""
    for name, letters in contigs.items():
        line_end = draw.choice(["\n", "\r\n"])
        header = draw.choice(["", " words > here", "\twords", " " * 3])
        text += f">{name}{header}{line_end}" + wrapped(letters, draw.choice([1, 7, 60, 70, 9999]), line_end)
        text += "\n" * draw.choice([0, 0, 2])
    return text if draw.random() < 0.5 else text.rstrip("\r\n")


def random_regions(draw: random.Random, contigs: Contigs, count: int = 60) -> list[tuple[str, int, int]]:
    regions = []
    for _ in range(count):
        name = draw.choice(list(contigs))
        start, end = sorted(draw.choices(range(len(contigs[name]) + 1), k=2))
        regions.append((name, start, end))
    return regions


def check_genome(genome: Genome, contigs: Contigs, draw: random.Random) -> None:
    """Compare every way to read with slices of the contigs."""
    assert genome.names == tuple(contigs)
    assert genome.lengths.tolist() == [len(letters) for letters in contigs.values()]
    regions = random_regions(draw, contigs)
    expected = [contigs[name][start:end] for name, start, end in regions]
    assert [genome.fetch(*region) for region in regions] == expected
    assert genome.fetch_many(regions) == expected
    assert genome.fetch_many(iter(regions), threads=2) == expected
    indexes = [genome.index(name) for name, _, _ in regions]
    packed = genome.fetch_packed(indexes, [r[1] for r in regions], [r[2] for r in regions])
    assert packed.letters.tobytes().decode() == "".join(expected)
    assert np.diff(packed.offsets).tolist() == [len(letters) for letters in expected]
    for name, letters in contigs.items():
        assert genome.fetch(name) == letters


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def instructions(request: pytest.FixtureRequest):
    best = _core.limit_instruction_set("avx512")
    yield _core.limit_instruction_set(request.param)
    _core.limit_instruction_set(best)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("soft_masked", [False, True], ids=["upper", "soft-masked"])
@pytest.mark.parametrize("seed", range(15))
def test_fasta_is_read_as_it_was_written(tmp_path: Path, seed: int, soft_masked: bool) -> None:
    draw = random.Random(seed)
    contigs = random_contigs(draw)
    expected = {name: cleaned(letters, soft_masked) for name, letters in contigs.items()}
    path = write(tmp_path / "x.fa", fasta(draw, contigs))
    blocked = write(tmp_path / "x.fa.gz", bgzf(path.read_bytes(), draw.choice([20, 300, 60000])))
    for source in (path, blocked):
        for in_memory in (True, False):
            check_genome(Genome(source, in_memory=in_memory, soft_masked=soft_masked), expected, draw)
        # Once more, by the index that was kept.
        assert source.with_name(source.name + ".fgi").exists()
        check_genome(Genome(source, soft_masked=soft_masked), expected, draw)


@pytest.mark.parametrize("maker", ["samtools", "pyfaidx"])
@pytest.mark.parametrize("seed", range(15))
def test_fai_of_others_is_read(tmp_path: Path, seed: int, maker: str) -> None:
    draw = random.Random(seed)
    contigs = {f"c{i}": random_letters(draw, draw.choice([1, 60, 61, 700]), "ACGT") for i in range(4)}
    text = "".join(
        f">{name}\n" + wrapped(letters, draw.choice([60, 70])) for name, letters in contigs.items()
    )
    path = write(tmp_path / "x.fa", text.rstrip("\n") if seed % 3 == 0 else text)
    if maker == "samtools":
        pysam.faidx(str(path))
    else:
        pyfaidx.Fasta(str(path)).close()
    genome = Genome(path)
    assert not (tmp_path / "x.fa.fgi").exists()
    check_genome(genome, contigs, draw)
    with pysam.FastaFile(str(path)) as peer:
        for region in random_regions(draw, contigs):
            assert genome.fetch(*region) == peer.fetch(*region)


def test_yeast_is_read_like_pysam_does(data_dir: Path, tmp_path: Path) -> None:
    """The whole genome, and 2,000 windows, from every kind of file."""
    name = "Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz"
    zipped = Path(shutil.copy(data_dir / "yeast_genome" / name, tmp_path / "zipped.fa.gz"))
    in_memory = Genome(zipped, in_memory=True)
    contigs = {name: in_memory.fetch(name) for name in in_memory.names}
    plain = write(
        tmp_path / "x.fa", "".join(f">{name}\n" + wrapped(letters, 60) for name, letters in contigs.items())
    )
    packed = write(tmp_path / "x.2bit", two_bit(contigs))
    pysam.tabix_compress(str(plain), str(tmp_path / "x.fa.gz"))
    draw = random.Random(0)
    regions = [(name, start, start + 1000) for name, start, _ in random_regions(draw, contigs, 2000)]
    regions = [region for region in regions if region[2] <= len(contigs[region[0]])]
    shutil.copy(plain, tmp_path / "peer.fa")
    with pysam.FastaFile(str(tmp_path / "peer.fa")) as peer:
        expected = [peer.fetch(*region) for region in regions]
        assert all(peer.fetch(name) == letters for name, letters in contigs.items())
    for path in (plain, packed, tmp_path / "x.fa.gz"):
        genome = Genome(path)
        assert genome.fetch_many(regions) == expected
        assert all(genome.fetch(name) == letters for name, letters in contigs.items())


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("seed", range(8))
def test_two_bit_is_read_as_it_was_written(tmp_path: Path, seed: int, version: int, order: str) -> None:
    draw = random.Random(seed)
    contigs = random_contigs(draw, draw.choice([BASES, "ACGT", "NNNNNa"]))
    path = write(tmp_path / "x.2bit", two_bit(contigs, order, version))
    for in_memory in (False, True):
        check_genome(Genome(path, in_memory=in_memory, soft_masked=True), contigs, draw)
        upper = {name: letters.upper() for name, letters in contigs.items()}
        check_genome(Genome(path, in_memory=in_memory), upper, draw)


@pytest.mark.parametrize("seed", range(5))
def test_two_bit_is_read_like_twobitreader_does(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    contigs = {f"c{i}": random_letters(draw, draw.randint(20, 900), BASES) for i in range(4)}
    path = write(tmp_path / "x.2bit", two_bit(contigs))
    peer = twobitreader.TwoBitFile(str(path))
    genome = Genome(path, soft_masked=True)
    for name, start, end in random_regions(draw, contigs):
        if end > start:
            assert genome.fetch(name, start, end).upper() == peer[name][start:end].upper()
    for name in contigs:
        assert genome.fetch(name) == str(peer[name])


REFUSED = [
    (("c", -1, 2), "c:-1-2 does not lie within c, which has 8 bases"),
    (("c", 3, 2), "c:3-2 does not lie"),
    (("c", 0, 9), "c:0-9 does not lie within c, which has 8 bases"),
    (("c", 9, 9), "does not lie within"),
    (("c", 0, 2**63 - 1), "does not lie within"),
    (("c", 0, 2**70), "lies outside of every contig"),
    (("d", 0, 1), "there is no contig 'd' .*there are 2, c, e"),
]


@pytest.mark.parametrize(("region", "message"), REFUSED, ids=[str(region) for region, _ in REFUSED])
@pytest.mark.parametrize("in_memory", [False, True])
def test_region_that_is_not_there_is_an_error(
    tmp_path: Path, region: tuple[str, int, int], message: str, in_memory: bool
) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">c\nACGT\nACGT\n>e\n"), in_memory=in_memory)
    assert (genome.fetch("c", 8, 8), genome.fetch("e"), genome.fetch_many([])) == ("", "", [])
    with pytest.raises(ArgumentError, match=message):
        genome.fetch(*region)
    with pytest.raises(ArgumentError, match=message):
        genome.fetch_many([("c", 0, 1), region])
    if region[0] == "c" and region[2] < 2**63:
        with pytest.raises(ArgumentError, match=message):
            genome.fetch_packed(0, region[1], region[2])


def test_arguments_of_the_wrong_kind_are_errors(tmp_path: Path) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">c\nACGT\n"))
    with pytest.raises(TypeError, match=r"a region is a tuple: \(contig, start, end\)"):
        genome.fetch_many([("c", 1)])
    with pytest.raises(TypeError):
        genome.fetch_many([("c", 0.5, 2)])
    with pytest.raises(TypeError):
        genome.fetch_many([(["c"], 0, 2)])
    with pytest.raises(ArgumentError, match="are integers, not float64"):
        genome.fetch_packed([0], [0.5], [1])
    with pytest.raises(ArgumentError, match="no contig with the index 1 among 1"):
        genome.fetch_packed([1], [0], [1])
    with pytest.raises(ArgumentError, match="no contig with the index -1"):
        genome.fetch_packed([-1], [0], [1])


def test_fetch_packed_takes_one_contig_for_all(tmp_path: Path) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">c\nACGTACGG\n"))
    starts = np.arange(0, 6, 2)
    packed = genome.fetch_packed(0, starts, starts + 4)
    assert packed.letters.tobytes() == b"ACGTGTACACGG"
    assert (packed.letters.dtype, packed.offsets.tolist()) == (np.uint8, [0, 4, 8, 12])


def test_fetch_packed_writes_to_the_beginning_of_a_buffer(tmp_path: Path) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">c\nACGTACGG\n"))
    buffer = np.full(9, ord("."), np.uint8)
    packed = genome.fetch_packed(0, [0, 4], [3, 8], out=buffer)
    assert packed.letters.base is buffer
    assert (packed.letters.tobytes(), packed.offsets.tolist()) == (b"ACGACGG", [0, 3, 7])
    assert buffer.tobytes() == b"ACGACGG.."


@pytest.mark.parametrize(
    "out",
    [
        np.zeros(7, np.int8),
        np.zeros(6, np.uint8),
        np.zeros((7, 1), np.uint8),
        np.zeros(14, np.uint8)[::2],
        [],
    ],
    ids=["dtype", "small", "shape", "strides", "list"],
)
def test_buffer_that_letters_cannot_be_written_to_is_an_error(tmp_path: Path, out: object) -> None:
    genome = Genome(write(tmp_path / "x.fa", ">c\nACGTACGG\n"))
    with pytest.raises(ArgumentError, match="out "):
        genome.fetch_packed(0, [0, 4], [3, 8], out=out)


@pytest.mark.parametrize(
    ("content", "in_memory", "message"),
    [
        (">c\nAC*T\n", True, r"'\*' at position 2 \(from 0\) of c is not a nucleotide"),
        (">c\nACGT\nAL\n", True, "'L' at position 5"),
        (">c\nAC\x01T\n", True, r"'\\x01' at position 2"),
        (">c\nAC*T\n", False, r"line 2 \(contig c\): a byte \(42\) that is not a nucleotide"),
        (">c\nAC>T\n", False, "line 2 .*not a nucleotide"),
        (">c\nAC>T\n", True, "'>' at position 2"),
        (">c\nAC T\n", False, "white space within or at the end"),
        (">c\nACT \n", False, "white space within or at the end"),
        (">c\nAC\rT\n", False, "white space|carriage return within a line"),
        (">c\nACT\r", False, "carriage return at the end of the file"),
        (">c\rACGT\r", False, "carriage return within a header"),
        (">c\rACGT\r", True, "lone carriage return"),
        (">c\nACGT\nAC\nAC\n", False, "line 4 .*behind a shorter or empty one"),
        (">c\nACGT\n\nAC\n", False, "line 4 .*behind a shorter or empty one"),
        (">c\nACGT\nACGTA\n", False, "line 3 .*longer than the first"),
        (">c\nACGT\r\nACGT\n", False, "line 3 .*another line end"),
        (">c\nA\n>c\nC\n", False, "two contigs are named c"),
        (">c x\nA\n>c\nC\n", True, "two contigs are named c"),
        (">\nA\n", False, "line 1.*without a name"),
        ("> c\nA\n", False, "line 1.*without a name"),
        (">\nA\n", True, "record 1 has no name"),
        ("ACGT\n", False, "line 1: a FASTA file begins with '>'"),
        ("ACGT\n", True, "line 1: a FASTA file begins with '>'"),
        ("\xef\xbb\xbf>c\nA\n", False, "begins with '>'"),
        ("", False, "holds no contigs"),
        ("\n\n", True, "holds no contigs"),
    ],
)
def test_file_that_cannot_be_read_exactly_is_an_error(
    tmp_path: Path, content: str, in_memory: bool, message: str
) -> None:
    path = write(tmp_path / "x.fa", content)
    with pytest.raises(InputError, match=message):
        Genome(path, in_memory=in_memory)
    assert in_memory or not content or not (tmp_path / "x.fa.fgi").exists() or "two contigs" in message


@pytest.mark.parametrize("in_memory", [False, True])
def test_name_that_is_not_utf8_is_shown_by_its_bytes(tmp_path: Path, in_memory: bool) -> None:
    path = write(tmp_path / "x.fa", ">caf\xe9 x\nACGT\n>b\nGG\n")
    for _ in range(2):
        genome = Genome(path, in_memory=in_memory)
        assert genome.names == ("caf\\xe9", "b")
        assert genome.fetch("caf\\xe9", 1) == "CGT"
        with pytest.raises(ArgumentError, match=r"caf\\xe9:0-9 does not lie within"):
            genome.fetch("caf\\xe9", 0, 9)


def test_any_layout_is_read_into_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", "\xef\xbb\xbf\n>c words\nAC\n\nACGT \r\nA C\tG\n>d\n>e\r\nTT")
    genome = Genome(path, in_memory=True)
    assert [genome.fetch(name) for name in genome.names] == ["ACACGTACG", "", "TT"]


def test_gzip_needs_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa.gz", gzip.compress(b">c\nACGT\n"))
    assert Genome(path, in_memory=True).fetch("c") == "ACGT"
    with pytest.raises(InputError, match=r"in_memory=True, or compress it with bgzip"):
        Genome(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        Genome(tmp_path / "none.fa")
    with pytest.raises(InputError, match="cannot read"):
        Genome(tmp_path)


@pytest.mark.parametrize("kind", ["plain", "bgzf", "2bit", "memory"])
def test_threads_processes_and_pickle_read_the_same(tmp_path: Path, kind: str) -> None:
    draw = random.Random(3)
    contigs = {f"c{i}": random_letters(draw, 40_000, "ACGT") for i in range(3)}
    text = "".join(f">{name}\n" + wrapped(letters, 60) for name, letters in contigs.items())
    content = {"bgzf": bgzf(text.encode(), 3000), "2bit": two_bit(contigs)}.get(kind, text.encode())
    genome = Genome(write(tmp_path / "x", content), in_memory=kind == "memory")
    regions = random_regions(draw, contigs, 400)
    expected = [contigs[name][start:end] for name, start, end in regions]
    wrong: list[int] = []

    def read(number: int) -> None:
        for _ in range(3):
            if [genome.fetch(*region) for region in regions[number::8]] != expected[number::8]:
                wrong.append(number)
            if genome.fetch_many(regions, threads=2) != expected:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with multiprocessing.get_context("fork").Pool(2) as pool:
        # Forked, with the bound method pickled: the path is opened again; and by what the child inherited.
        assert pool.map(genome.fetch_many, [regions[:200], regions[200:]]) == [expected[:200], expected[200:]]
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            same = [genome.fetch(*region) for region in regions[number:]] == expected[number:]
            os._exit(0 if same and genome.fetch_many(regions, threads=2) == expected else 1)
        children.append(child)
    assert [genome.fetch(*region) for region in regions] == expected
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert pickle.loads(pickle.dumps(genome)).fetch_many(regions) == expected


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("soft_masked", [False, True])
def test_pickle_keeps_the_options(tmp_path: Path, in_memory: bool, soft_masked: bool) -> None:
    path = write(tmp_path / "x.fa", ">c\nACgt\n")
    genome = Genome(path, in_memory=in_memory, soft_masked=soft_masked)
    path_of_index = tmp_path / "x.fa.fgi"
    path_of_index.unlink(missing_ok=True)
    again = pickle.loads(pickle.dumps(genome))
    assert again.fetch("c") == genome.fetch("c") == ("ACgt" if soft_masked else "ACGT")
    assert path_of_index.exists() == (not in_memory)


@pytest.mark.parametrize("kind", ["plain", "bgzf", "2bit"])
def test_file_that_changes_while_it_is_open_is_an_error(tmp_path: Path, kind: str) -> None:
    text = ">c\n" + wrapped("ACGT" * 100, 60)
    content = {"bgzf": bgzf(text.encode(), 100), "2bit": two_bit({"c": "ACGT" * 100})}.get(
        kind, text.encode()
    )
    path = write(tmp_path / "x", content)
    genome = Genome(path)
    assert genome.fetch("c", 0, 4) == "ACGT"
    with path.open("r+b") as file:
        file.truncate(len(content) - 50)
    for read in (lambda: genome.fetch("c", 0, 4), lambda: genome.fetch_many([("c", 0, 4)])):
        with pytest.raises(InputError, match="has changed since it was opened"):
            read()


SIZES = [2**31, 2**32, 2**33 + 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [None, 70], ids=["one-line", "wrapped"])
def test_fasta_beyond_32_bits(tmp_path: Path, size: int, width: int | None) -> None:
    """A contig of gigabases in a sparse file, whose letters stand only where they are asked for."""
    line = width or size
    first = len(">long\n")

    def offset(position: int) -> int:
        return first + position // line * (line + 1) + position % line

    windows = [(0, 80), (2**31 - 100, 2**31 - 1), (size - 75, size)]
    if size > 2**32:
        windows += [(2**31 - 40, 2**31 + 40), (2**32 - 80, 2**32 + 90)]
    path = tmp_path / "x.fa"
    letters = random_letters(random.Random(1), 200, "ACGT")
    with path.open("wb") as file:
        file.write(b">long\n")
        for start, end in windows:
            for position in range(start, end):
                file.seek(offset(position))
                file.write(letters[position % 200].encode())
                if position % line == line - 1 or position == size - 1:
                    file.write(b"\n")
        file.seek(offset(size - 1) + 2)
        file.write(b">next\nGATTACA\n")
        tail = file.tell() - 8
    (tmp_path / "x.fa.fai").write_text(f"long\t{size}\t6\t{line}\t{line + 1}\nnext\t7\t{tail}\t7\t8\n")
    genome = Genome(path)
    assert genome.lengths.tolist() == [size, 7]
    for start, end in windows:
        expected = "".join(letters[position % 200] for position in range(start, end))
        assert genome.fetch("long", start, end) == expected
        assert genome.fetch_packed(0, [start], [end]).letters.tobytes().decode() == expected
    assert genome.fetch("next") == "GATTACA"
    with pytest.raises(ArgumentError, match=str(size)):
        genome.fetch("long", size - 1, size + 1)
    # A hole is not DNA, however far out.
    with pytest.raises(InputError, match=r"a line is not as long as it says|'\\x00' at position 1073741824"):
        genome.fetch("long", 2**30, 2**30 + 100)


@pytest.mark.parametrize("size", [2**31 + 70, 2**32 - 1])
@pytest.mark.parametrize("version", [0, 1])
def test_two_bit_beyond_31_bits(tmp_path: Path, size: int, version: int) -> None:
    """Bases of a sparse file are T; a block of N and one of lower case lie at the very end."""
    names = struct.pack("<4I", 0x1A412743, version, 2, 0)
    code = "<I" if version == 0 else "<Q"
    start = 16 + 2 * (2 + struct.calcsize(code))
    head = struct.pack("<I", size) + struct.pack("<3I", 1, size - 9, 5) + struct.pack("<3I", 1, size - 6, 6)
    packed = (size + 3) // 4
    second = start + len(head) + 4 + packed
    index = b"\x01a" + struct.pack(code, start) + b"\x01b" + struct.pack(code, second)
    path = tmp_path / "x.2bit"
    with path.open("wb") as file:
        file.write(names + index + head + struct.pack("<I", 0))
        file.seek(second)
        file.write(struct.pack("<4I", 8, 0, 0, 0) + bytes([0b10011100, 0b11110110]))
    genome = Genome(path, soft_masked=True)
    assert genome.lengths.tolist() == [size, 8]
    assert genome.fetch("a", size - 12, size) == "TTTNNNnntttt"
    assert genome.fetch("a", 2**31 - 4, 2**31 + 4) == "T" * 8
    assert genome.fetch("b") == "ACGTGGCA"


def test_own_index_is_made_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", ">c\nACGT\nAC\n")
    assert build_index(path) == tmp_path / "x.fa.fgi"
    assert Genome(path).fetch("c") == "ACGTAC"
    with pytest.raises(InputError, match="there is no file"):
        build_index(tmp_path / "none.fa")


def test_read_only_folder_gets_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.fa", ">c\nACGT\nAC\n")

    def refuse(*_: object) -> None:
        raise ArgumentError("no permission")

    monkeypatch.setattr("fastgenome.genome.write_index", refuse)
    assert Genome(path).fetch("c", 3) == "TAC"
    assert list(tmp_path.iterdir()) == [path]
