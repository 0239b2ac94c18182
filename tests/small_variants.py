"""Variants made for tests, and what is to become of them, by editing strings; nothing of the package."""

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}
HEADER = (
    "##fileformat=VCFv4.2\n##note=kept  as it is\n"
    '##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">\n'
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="known">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    '##FILTER=<ID=q10,Description="low">\n'
)
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


class Line(NamedTuple):
    """A line of VCF; `pos` counts from 1."""

    contig: str
    pos: int
    id: str
    ref: str
    alts: tuple[str, ...]

    def text(self, rest: str = "30.50\tq10\tDB") -> str:
        return f"{self.contig}\t{self.pos}\t{self.id}\t{self.ref}\t{','.join(self.alts) or '.'}\t{rest}\n"


def vcf(lines: list[Line], contigs: list[str] | None = None) -> str:
    """A VCF; contigs are declared where they are given."""
    declared = "".join(f"##contig=<ID={name}>\n" for name in contigs or [])
    return HEADER + declared + COLUMNS + "\n" + "".join(line.text() for line in lines)


def parsed(text: str) -> Iterator[Line]:
    """The lines of a VCF text."""
    for row in text.splitlines():
        if not row.startswith("#"):
            contig, pos, name, ref, alts = row.split("\t")[:5]
            yield Line(contig, int(pos), name, ref, () if alts == "." else tuple(alts.split(",")))


def edited(contig: str, start: int, ref: str, alt: str, window: int) -> tuple[str, str] | str:
    """Windows of the reference and of the changed contig, or why there are none; `start` counts from 0."""
    ref, alt = ref.upper(), alt.upper()
    changed = contig[:start] + alt + contig[start + len(ref) :]
    if len(ref) > window or len(alt) > window:
        return "allele_too_long"
    if len(contig) < window or len(changed) < window:
        return "contig_too_short"
    # Of all places where both windows lie in their contigs the nearest to that with the allele in the middle.
    wanted = start - (window - max(len(ref), len(alt))) // 2
    places = range(min(len(contig), len(changed)) - window + 1)
    place = min(places, key=lambda first: abs(first - wanted))
    windows = []
    for letters, allele in ((contig, ref), (changed, alt)):
        first = place
        while first + window < start + len(allele):
            first += 1
        windows.append(letters[first : first + window])
    return windows[0], windows[1]


def verdict(
    contigs: dict[str, str], line: Line, alt: str, window: int, max_n: float
) -> str | tuple[str, str]:
    """The reason why an allele is rejected, or its windows; contigs are found by their own names alone."""
    early = _by_itself(line.ref, alt)
    if early:
        return early
    if line.contig not in contigs:
        return "unknown_contig"
    contig = contigs[line.contig].upper()
    if line.pos == 0:
        return "position_zero"
    if line.pos - 1 + len(line.ref) > len(contig):
        return "beyond_contig_end"
    if contig[line.pos - 1 :][: len(line.ref)] != line.ref.upper():
        return "ref_mismatch"
    windows = edited(contig, line.pos - 1, line.ref, alt, window)
    if isinstance(windows, tuple) and any(letters.count("N") / window > max_n for letters in windows):
        return "too_many_n"
    return windows


def _by_itself(ref: str, alt: str) -> str:
    if alt == "":
        return "no_alternative"
    if alt == "*":
        return "spanning_deletion"
    if re.search(r"[\[\]]|^\.|\.$", alt):
        return "breakend"
    if re.search("<.*>", alt):
        return "symbolic_allele"
    if not re.fullmatch("[ACGTN]+", ref + alt, re.IGNORECASE):
        iupac = re.fullmatch("[ACGTUNRYSWKMBDHV]+", ref + alt, re.IGNORECASE)
        return "ambiguous_letters" if iupac else "not_dna"
    return "same_as_reference" if ref.upper() == alt.upper() else ""


def reverse_complement(letters: str) -> str:
    return "".join(COMPLEMENT[letter] for letter in reversed(letters))


def random_contigs(draw: random.Random, lengths: tuple[int, ...] = (0, 1, 9, 30, 80, 200)) -> dict[str, str]:
    """Contigs named 1, 2 …, with unknown bases here and there, soft-masked in parts."""
    return {
        str(number): "".join(draw.choices("ACGTNacgt", [9, 9, 9, 9, 1, 2, 2, 2, 2], k=draw.choice(lengths)))
        for number in range(1, draw.randint(2, 5))
    }


def random_line(draw: random.Random, contigs: dict[str, str]) -> Line:
    """A line that mostly can be used, with any kind of defect now and then."""
    sizes = [len(letters) + 10 for letters in contigs.values()]
    name = draw.choices([*contigs, "elsewhere"], [*sizes, sum(sizes) / 20])[0]
    letters = contigs.get(name, "")
    pos = draw.randint(0, len(letters) + 2)
    ref = letters[max(0, pos - 1) :][: draw.choice([1, 1, 1, 2, 3, 8, 40])] or "A"
    if draw.random() < 0.15:
        ref = "".join(draw.choices("ACGT", k=len(ref)))
    if draw.random() < 0.05:
        ref = draw.choice(["R", "Aw", "AX", "n"])
    if draw.random() < 0.5:
        ref = ref.upper()
    return Line(name, pos, draw.choice([".", "rs1"]), ref, random_alternatives(draw, ref))


def random_alternatives(draw: random.Random, ref: str) -> tuple[str, ...]:
    odd = ["<DEL>", "<*>", "*", "A[2:7[", "]1:3]T", "<c>]1:3]", ".A", "A.", "Y", "Q", ref, "N", "a", "A<ins>"]
    plain = ["A", "C", "G", "T", ref[0] + "GATTACA", ref[0], "ACGTACGTACGTACGTACGTACGT", ref + "T"]
    chosen = draw.choices([*plain, *plain, *odd], k=draw.choice([1, 1, 1, 2, 3]))
    return () if draw.random() < 0.05 else tuple(dict.fromkeys(chosen))


def fasta(contigs: dict[str, str]) -> str:
    return "".join(f">{name}\n{letters}\n" for name, letters in contigs.items())
