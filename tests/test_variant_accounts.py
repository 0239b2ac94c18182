"""The account of scored variants: each allele is scored or rejected with the reason of its definition.

FASTGENOME_ACCOUNTS sets how many files are generated.
"""

import os
import random
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as parquet
import pytest
from genome_files import bgzf, write
from scored_variants import ONE, make_predictor
from small_variants import Line, fasta, random_contigs, random_line, vcf, verdict

import fastgenome as fg
from fastgenome.scoring import allele_table
from fastgenome.scoring.allele_checks import REASONS
from fastgenome.scoring.scorer import Scorer, as_scorer

pytest.importorskip("pysam")

FILES = int(os.environ.get("FASTGENOME_ACCOUNTS", "100"))


class Case(NamedTuple):
    """A generated file, its genome, and how it is scored.

    Attributes:
        contigs: letters by the names that the lines have; none of contigs that could be several.
        genome: letters by the names of the genome.
        aliases: names of the lines, and those that the genome has for these contigs where they differ.
        ambiguous: names of the lines that could be several contigs.
        lines: of the file.
        text: of the file.
    """

    contigs: dict[str, str]
    genome: dict[str, str]
    aliases: dict[str, str]
    ambiguous: set[str]
    lines: list[Line]
    text: str
    window: int
    max_n: float

    def verdicts(self) -> list[tuple[int, Line, str, str]]:
        """Number of the line from 1, line, alternative and reason, or "", of each allele."""
        found = []
        for number, line in enumerate(self.lines, 1):
            for alt in line.alts or ("",):
                reason = verdict(self.contigs, line, alt, self.window, self.max_n)
                if reason == "unknown_contig" and line.contig in self.ambiguous:
                    reason = "ambiguous_contig"
                found.append((number, line, alt, reason if isinstance(reason, str) else ""))
        return found


def random_case(draw: random.Random) -> Case:
    plain = {name: with_gap(draw, letters) for name, letters in random_contigs(draw).items()}
    names = {name: draw.choice([name, name, f"chr{name}"]) for name in plain}
    others = {name: name if other.startswith("chr") else f"chr{name}" for name, other in names.items()}
    own = {name: draw.choice([other, other, others[name]]) for name, other in names.items()}
    last, ambiguous = list(plain)[-1], set()
    if draw.random() < 0.2:
        names[last], own[last] = draw.sample(["M", "MT", "chrM", "chrMT"], 2)
    genome = {names[name]: letters for name, letters in plain.items()}
    if names[last] != own[last] and draw.random() < 0.3 and names[last].endswith(("M", "T")):
        ambiguous.add(own[last])
        genome |= {name: "ACGT" * 20 for name in ("M", "MT", "chrM", "chrMT") if name != own[last]}
    lines = random_lines(draw, plain, own)
    text = vcf(lines, draw.choice([None, list(own.values()), [*own.values(), "elsewhere"]]))
    if draw.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return Case(
        contigs={own[name]: letters for name, letters in plain.items() if own[name] not in ambiguous},
        genome=genome,
        aliases={own[name]: names[name] for name in plain if own[name] not in {names[name], *ambiguous}},
        ambiguous=ambiguous,
        lines=lines,
        text=text,
        window=draw.choice([9, 24, 24, 50]),
        max_n=draw.choice([0, 0.1, 0.5, 1]),
    )


def with_gap(draw: random.Random, letters: str) -> str:
    """The letters, sometimes with a run of unknown bases in them."""
    if draw.random() < 0.7:
        return letters
    start = draw.randint(0, len(letters))
    return letters[:start] + "N" * len(letters[start : start + 25]) + letters[start + 25 :]


def random_lines(draw: random.Random, contigs: dict[str, str], own: dict[str, str]) -> list[Line]:
    """Lines of any order, some twice; none at all now and then."""
    lines = [random_line(draw, contigs) for _ in range(draw.choice([0, 1, 4, 12, 30]))]
    if lines and draw.random() < 0.3:
        lines += draw.choices(lines, k=draw.randint(1, 5))
        draw.shuffle(lines)
    # What htslib refuses to read is not what is tried here.
    lines = [line for line in lines if "Q" not in line.alts and "Aw" not in line.ref]
    return [line._replace(contig=own.get(line.contig, line.contig)) for line in lines]


def kinds(case: Case) -> set[str]:
    """What a file has that not every file has."""
    lines, found = case.lines, {reason or "scored" for *_, reason in case.verdicts()}
    scored = {line for _, line, _, reason in case.verdicts() if not reason}
    at_end = (line.pos - 1 + len(line.ref) == len(case.contigs[line.contig]) for line in scored)
    tried = {
        "empty": not lines,
        "duplicates": len(set(lines)) < len(lines),
        "several alternatives": any(len(line.alts) > 2 for line in lines),
        "first base": any(line.pos == 1 for line in scored),
        "last base": any(at_end),
        "unknown bases": any("N" in line.ref.upper() for line in scored),
        "another name": any(line.contig in case.aliases for line in scored),
        "one of several": len(found) > 5,
    }
    return found | {name for name, is_so in tried.items() if is_so}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return as_scorer(make_predictor())


@pytest.fixture(autouse=True)
def _small_shards_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allele_table, "_SHARD_ALLELES", 16)
    # Thousands of jobs are no question of durability.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_score_variants_accounts_for_every_allele_of_generated_files(scorer: Scorer, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for number in range(FILES):
        case = random_case(random.Random(number))
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            check_account(case, scorer, folder, packed=number % 2 == 0)
        except BaseException as error:
            error.add_note(f"file {number}")
            raise
        shutil.rmtree(folder)
        seen.update(kinds(case))
    others = {"scored", "empty", "duplicates", "several alternatives", "first base", "last base"}
    others |= {"unknown bases", "another name", "one of several"}
    assert set(seen) == {*REASONS, *others}


def check_account(case: Case, scorer: Scorer, folder: Path, *, packed: bool) -> None:
    """Score a file and compare its report, its table, its VCF and its rejects with the definition."""
    content = case.text.encode()
    source = write(folder / "in.vcf.gz", bgzf(content, 300) if packed else content)
    genome = write(folder / "genome.fa", fasta(case.genome))
    outs = [folder / "out.vcf", folder / "out.parquet"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        report = fg.score_variants(
            scorer,
            source,
            genome,
            out=outs,
            window=case.window,
            max_n=case.max_n,
            max_ref_mismatch=1,
            run=ONE,
        )
    verdicts = case.verdicts()
    rejected = [verdict for verdict in verdicts if verdict[3]]
    assert report.n_records == len(case.lines)
    assert report.n_in == len(verdicts) == report.n_scored + report.alleles.n_rejected
    assert report.reasons == Counter(reason for *_, reason in rejected)
    named = {line.contig for line in case.lines}
    assert report.aliases == {name: other for name, other in case.aliases.items() if name in named}
    assert bool(warned) == bool(report.aliases)
    table = parquet.read_table(outs[1]).to_pydict()
    assert list(zip(*(table[name] for name in ("contig", "start", "ref", "alt")), strict=True)) == [
        (line.contig, line.pos - 1, line.ref, alt) for _, line, alt, reason in verdicts if not reason
    ]
    rows = [row.split("\t") for row in Path(f"{outs[0]}.rejected.tsv").read_text().splitlines()]
    assert rows[0] == ["record", "contig", "start", "end", "id", "ref", "alt", "reason"]
    assert [[row[i] for i in (0, 1, 2, 5, 6, 7)] for row in rows[1:]] == [
        [str(number), line.contig, str(line.pos - 1), line.ref, alt, reason]
        for number, line, alt, reason in rejected
    ]
    assert figures_of(outs[0]) == [
        ["." if reason else "number" for other, _, alt, reason in verdicts if other == number and alt]
        for number in range(1, len(case.lines) + 1)
    ]


def figures_of(path: Path) -> list[list[str]]:
    """For each line of a scored VCF, what stands there for each alternative."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    fields = [
        [part.partition("=")[2] for part in line[7].split(";") if part.startswith("FG_probability_1_delta=")]
        for line in lines
    ]
    return [
        ["." if text == "." else "number" for text in found[0].split(",")] if found else []
        for found in fields
    ]
