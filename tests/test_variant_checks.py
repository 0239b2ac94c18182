"""Alleles: windows as edited strings, a reason for every reject, contigs by their other names."""

import gzip
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from genome_files import write
from hypothesis import given, settings
from hypothesis import strategies as st
from small_variants import Line, edited, fasta, parsed, random_contigs, random_line, vcf, verdict

from fastgenome.bgzf import BgzfFile, BgzfWriter
from fastgenome.errors import InputError
from fastgenome.genome import Genome
from fastgenome.scoring.allele_checks import REASONS, AlleleChecks
from fastgenome.scoring.contig_names import ContigNames
from fastgenome.scoring.variant_windows import Change, fetch_windows, no_room, window_starts
from fastgenome.variants import Variant

FILES = max(3000, int(os.environ.get("FASTGENOME_ACCOUNTS", "0")))


class TextGenome:
    """Contigs in memory, with the methods of a Genome that windows need."""

    def __init__(self, contigs: dict[str, str]) -> None:
        self.contigs = contigs
        self.names = tuple(contigs)
        self.lengths = np.array([len(letters) for letters in contigs.values()], dtype=np.int64)

    def fetch_many(self, regions, *, threads: int = 0) -> list[str]:
        found = [self.contigs[name][start:end] for name, start, end in regions]
        assert all(len(letters) == end - start for letters, (_, start, end) in zip(found, regions))  # noqa: B905
        return found


def windows_of(contig: str, start: int, ref: str, alt: str, window: int) -> tuple[str, str] | str:
    reason = no_room(len(ref), len(alt), window=window, contig=len(contig))
    if reason:
        return reason
    found = fetch_windows(TextGenome({"c": contig}), [Change("c", start, ref, alt)], window)
    return found.reference[0], found.alternative[0]


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_windows_are_those_of_edited_strings(data: st.DataObject) -> None:
    contig = data.draw(st.text("ACGTN", min_size=1, max_size=60))
    start = data.draw(st.integers(0, len(contig) - 1))
    end = data.draw(st.integers(start + 1, len(contig)))
    alt = data.draw(st.text("ACGTN", min_size=1, max_size=30))
    window = data.draw(st.integers(1, 40))
    expected = edited(contig, start, contig[start:end], alt, window)
    assert windows_of(contig, start, contig[start:end], alt, window) == expected


@pytest.mark.parametrize("window", [1, 2, 9, 10])
@pytest.mark.parametrize(("ref", "alt"), [(1, 1), (1, 4), (4, 1), (3, 3), (5, 9)])
def test_windows_hold_both_alleles_behind_the_same_bases(window: int, ref: int, alt: int) -> None:
    for contig in range(1, 30):
        for start in range(contig - ref + 1):
            if no_room(ref, alt, window=window, contig=contig):
                continue
            first, second = window_starts(start, ref, alt, window=window, contig=contig)
            assert 0 <= first <= start
            assert start + ref <= first + window <= contig
            assert 0 <= second <= start
            assert start + alt <= second + window <= contig - ref + alt
            # Only near the end can the longer allele's window lie further on, and then it ends with it.
            if first != second:
                longer, bases = (first, ref) if ref > alt else (second, alt)
                assert longer > min(first, second)
                assert start + bases == longer + window
                assert start + bases > min(contig, contig - ref + alt)


def test_window_of_a_single_base_change_is_centred() -> None:
    assert window_starts(50, 1, 1, window=9, contig=100) == (46, 46)
    assert window_starts(50, 1, 1, window=10, contig=100) == (46, 46)
    assert window_starts(2, 1, 1, window=9, contig=100) == (0, 0)
    assert window_starts(98, 1, 1, window=9, contig=100) == (91, 91)


def test_checks_give_every_allele_the_reason_of_its_definition(tmp_path: Path) -> None:
    draw = random.Random(11)
    seen: Counter[str] = Counter()
    # Ten files of each genome.
    for round_number in range(FILES // 10):
        contigs = random_contigs(draw)
        genome = Genome(write(tmp_path / f"{round_number}.fa", fasta(contigs)), in_memory=True)
        for _ in range(10):
            text = vcf([random_line(draw, contigs) for _ in range(draw.randint(1, 12))])
            seen.update(
                check_one(text, contigs, genome, draw.choice([1, 5, 20, 30]), draw.choice([0, 0.1, 1]))
            )
    assert set(seen) == {*REASONS, "scored"} - {"ambiguous_contig"}
    assert seen["scored"] > 3000


def check_one(text: str, contigs: dict[str, str], genome: Genome, window: int, max_n: float) -> Counter[str]:
    """Compare all alleles of a VCF with their definition."""
    lines = list(parsed(text))
    checks = AlleleChecks(genome, ContigNames(genome.names), window, max_n)
    variants = [Variant(line.contig, line.pos - 1, line.id, line.ref, line.alts) for line in lines]
    half = len(variants) // 2
    alleles = checks.check(variants[:half]) + checks.check(variants[half:])
    expected = [
        (number, allele, verdict(contigs, line, alt, window, max_n))
        for number, line in enumerate(lines)
        for allele, alt in list(enumerate(line.alts, 1)) or [(0, "")]
    ]
    assert [(a.record, a.number) for a in alleles] == [(record, allele) for record, allele, _ in expected]
    reasons = [found if isinstance(found, str) else "" for *_, found in expected]
    assert [allele.reason for allele in alleles] == reasons
    accepted = [allele for allele in alleles if not allele.reason]
    changes = [Change(a.contig, a.start, a.reference, a.alternative) for a in accepted]
    windows = fetch_windows(genome, changes, window)
    assert list(zip(*windows, strict=True)) == [found for *_, found in expected if isinstance(found, tuple)]
    mismatched = {
        record for (record, _, _), reason in zip(expected, reasons, strict=True) if reason == "ref_mismatch"
    }
    assert checks.n_mismatched == len(mismatched)
    assert checks.n_records == len(lines)
    return Counter(reason or "scored" for reason in reasons)


def test_checks_count_a_line_once_and_only_where_an_allele_could_be_scored(tmp_path: Path) -> None:
    genome = Genome(write(tmp_path / "g.fa", ">1\nACGTACGTAC\n"))
    checks = AlleleChecks(genome, ContigNames(genome.names), 4, 1.0)
    checks.check(
        [
            Variant("1", 0, "", "A", ("C", "G", "<DEL>")),
            Variant("1", 0, "", "T", ("C", "G", "*")),
            Variant("1", 0, "", "N", ("<DEL>",)),
            Variant("2", 0, "", "T", ("A",)),
            Variant("1", 9, "", "CA", ("C",)),
            Variant("1", 0, "", "ACGTACG", ("A",)),
        ]
    )
    # The first two and the last, which is too long but can be compared.
    assert (checks.n_checked, checks.n_mismatched) == (3, 1)


@pytest.mark.parametrize(
    ("genome", "name", "found"),
    [
        (["1", "2"], "chr2", "2"),
        (["chr1", "chr2"], "2", "chr2"),
        (["1", "chr1"], "1", "1"),
        (["chrM"], "MT", "chrM"),
        (["MT"], "chrM", "MT"),
        (["M"], "chrMT", "M"),
        (["chrM", "MT"], "M", "ambiguous_contig"),
        (["chrM", "chrMT"], "MT", "ambiguous_contig"),
        (["1"], "Chr1", "unknown_contig"),
        (["1"], "01", "unknown_contig"),
        (["1"], "chr", "unknown_contig"),
        (["I", "Mito"], "chrI", "I"),
    ],
)
def test_contigs_are_found_by_another_name_where_it_is_unambiguous(
    genome: list[str], name: str, found: str
) -> None:
    names = ContigNames(genome, [name])
    contig = names.find(name)
    assert (contig.reason or genome[contig.place]) == found
    assert names.aliases == ({name: found} if found in genome and found != name else {})


def test_two_contigs_of_a_file_are_never_one_of_the_genome() -> None:
    declared = ContigNames(["1"], ["chr1", "1"])
    assert declared.find("chr1").reason == "ambiguous_contig"
    assert declared.find("1") == (0, "")
    both = ContigNames(["MT"], ["M", "chrM"])
    assert {both.find(name).reason for name in ("M", "chrM")} == {"ambiguous_contig"}
    for order in (("chr1", "1"), ("1", "chr1")):
        late = ContigNames(["1"])
        late.find(order[0])
        with pytest.raises(InputError, match="would both be '1' of the genome"):
            late.find(order[1])
    assert ContigNames(["1"], ["chr1"]).aliases == {}


@pytest.mark.parametrize("size", [0, 1, 65279, 65280, 65281, 200_000])
def test_bgzf_that_is_written_is_read_by_others(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    path = tmp_path / "x.gz"
    with path.open("wb") as file:
        writer = BgzfWriter(file)
        for first in range(0, size, 7001):
            writer.write(content[first : first + 7001])
        writer.close()
    assert gzip.decompress(path.read_bytes()) == content
    assert BgzfFile(path).read(0, size + 1) == content
    pysam = pytest.importorskip("pysam")
    with pysam.BGZFile(str(path)) as file:
        assert file.read() == content


def test_lines_of_this_file_are_read_as_they_stand() -> None:
    line = Line("1", 3, "rs1", "A", ("C", "<DEL>"))
    assert list(parsed(vcf([line]))) == [line]
