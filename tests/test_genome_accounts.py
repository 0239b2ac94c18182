"""The account of a genome job: each record and each window is scored or rejected with a reason.

FASTGENOME_ACCOUNTS sets how many genomes and BED files are generated.
"""

import os
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scored_genomes import HERE, defined_windows, letters, trained, write_fasta

import fastgenome as fg
from fastgenome.scoring.window_plan import WindowOptions

EXAMPLES = int(os.environ.get("FASTGENOME_ACCOUNTS", "40"))


@pytest.fixture(scope="module")
def of_gc() -> fg.Predictor:
    return trained(None, ("gc",))


@pytest.fixture(autouse=True)
def _not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    # Thousands of jobs are no question of durability.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


bed_line = st.one_of(
    st.tuples(
        st.sampled_from(["chrA", "chrB", "short", "none", ""]), st.integers(-5, 1300), st.integers(-5, 1300)
    ).map(lambda fields: "\t".join(map(str, fields))),
    st.sampled_from([
        "#comment", "track name=x", "browser position chrA", "", "\t\t", "chrA", "chrA\t5",
        "chrA 10 300 name", "chrA\t1e2\t900", "chrA\t0\t99999999999999999999", "chrA\t5\t300\tx\t0\t-",
        "chrA\t5\t300\tx\t0\t?", "chrA\t0\t1123", "chrA\t690\t800", "short\t0\t40\r",
        "chrB\t505\t505", "chra\t0\t100",
    ]),
)  # fmt: skip


def test_max_n_is_a_share_and_not_a_product(tmp_path: Path, of_gc: fg.Predictor) -> None:
    # 0.29 * 100 is less than 29 in floating point.
    genome = write_fasta(tmp_path / "genome.fa", {"a": "A" * 71 + "N" * 29})
    report = fg.score_genome(of_gc, genome, out=tmp_path / "s.tsv", window=100, max_n=0.29, run=HERE)
    assert report.windows.n_scored == 1


@pytest.mark.parametrize(("max_n", "scored"), [(0.06, 0), (0.1, 1)])
def test_max_n_does_not_count_what_fills_a_window_up(
    max_n: float, scored: int, tmp_path: Path, of_gc: fg.Predictor
) -> None:
    # 5 of 55 bases, or 9 %, are unknown, and 45 more are missing.
    genome = write_fasta(tmp_path / "genome.fa", {"a": "A" * 50 + "N" * 5})
    report = fg.score_genome(
        of_gc, genome, out=tmp_path / "s.tsv", window=100, edge="pad", max_n=max_n, run=HERE
    )
    assert (report.windows.n_in, report.windows.n_scored) == (1, scored)


def defined_reason(line: str, contigs: dict[str, str]) -> str:
    """Why a line of BED gives no window, as far as the lengths of contigs tell; "" where it may give one."""
    line = line.rstrip("\r")
    fields = line.split("\t") if "\t" in line else line.split()
    if not any(fields) or fields[0].startswith(("#", "track", "browser")):
        return "no region"
    if not all(re.fullmatch("[0-9]{1,19}", text) for text in (*fields[1:3], *["none"] * (3 - len(fields)))):
        return "malformed"
    if int(fields[1]) > int(fields[2]) or not fields[0] or fields[5:6] == ["?"]:
        return "malformed"
    if fields[0] not in contigs:
        return "unknown_contig"
    return "outside_contig" if int(fields[2]) > len(contigs[fields[0]]) else ""


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(bed_line, max_size=12),
    edge=st.sampled_from(["skip", "pad"]),
    max_n=st.sampled_from([0, 0.1, 1]),
)
def test_score_genome_accounts_for_every_region(
    lines: list[str], edge: Any, max_n: float, of_gc: fg.Predictor, tmp_path: Path
) -> None:
    folder = tmp_path
    contigs = {
        "chrA": letters(1, 700) + "N" * 90 + letters(2, 333),
        "short": letters(3, 40),
        "chrB": letters(4, 505),
    }
    (folder / "genome.fa.fgi").unlink(missing_ok=True)
    genome = write_fasta(folder / "genome.fa", contigs)
    (folder / "r.bed").write_text("\n".join(lines))
    report = fg.score_genome(
        of_gc, genome, out=folder / "s.tsv", window=60, stride=25, edge=edge, max_n=max_n,
        regions=folder / "r.bed", run=HERE,
    )  # fmt: skip
    reasons = Counter(reason for line in lines if (reason := defined_reason(line, contigs)) != "no region")
    records, windows = report.records, report.windows
    assert records.n_in == reasons.total() == records.n_scored + records.n_rejected
    judged = {reason: records.reasons.get(reason, 0) for reason in reasons if reason}
    assert judged == {reason: count for reason, count in reasons.items() if reason}
    assert records.reasons.keys() <= {*judged, "too_short", "too_many_n"}
    assert windows.n_in == windows.n_scored + windows.n_rejected
    rows = (folder / "s.tsv").read_text().splitlines()
    assert len(rows) - 1 == windows.n_scored


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text("ACGTNacgtnRY", max_size=400), min_size=1, max_size=5),
    window=st.integers(1, 90),
    stride=st.integers(1, 120),
    edge=st.sampled_from(["skip", "pad"]),
    max_n=st.sampled_from([0, 0.1, 0.5, 1]),
)
def test_score_genome_accounts_for_every_window(
    texts: list[str], window: int, stride: int, edge: Any, max_n: float, of_gc: fg.Predictor, tmp_path: Path
) -> None:
    contigs = {f"c{place}": text for place, text in enumerate(texts)}
    genome = write_fasta(tmp_path / "genome.fa", contigs)
    (tmp_path / "genome.fa.fgi").unlink(missing_ok=True)
    report = fg.score_genome(
        of_gc, genome, out=tmp_path / "s.tsv", window=window, stride=stride, edge=edge, max_n=max_n, run=HERE
    )
    options = WindowOptions(window, stride, edge=edge)
    scored = []
    for name, text in contigs.items():
        for start in defined_windows(len(text), options):
            letters_in = text[start : start + window].upper()
            unknown = sum(letter not in "ACGT" for letter in letters_in)
            if Fraction(unknown, len(letters_in)) <= Fraction(str(max_n)):
                scored.append((name, start, start + len(letters_in)))
    rows = [line.split("\t") for line in (tmp_path / "s.tsv").read_text().splitlines()[1:]]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == scored
    total = sum(len(defined_windows(len(text), options)) for text in texts)
    assert report.windows.n_in == total == len(scored) + report.windows.n_rejected
    assert report.records.n_in == len(texts)
    assert report.records.n_scored == len({name for name, _, _ in scored})
