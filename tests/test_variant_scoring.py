"""Scored variants: numbers of edited strings, a reason for every reject, wrong builds, other names."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import write
from numpy.typing import NDArray
from scipy.spatial import distance
from scored_variants import (
    FIGURES,
    ONE,
    WINDOW,
    one_score,
    run_variants,
    some_lines,
    table_scores,
    true_lines,
)
from small_variants import (
    Line,
    fasta,
    parsed,
    random_contigs,
    random_line,
    reverse_complement,
    vcf,
    verdict,
)

import fastgenome as fg
from fastgenome.errors import InputError

pysam = pytest.importorskip("pysam")
pytestmark = pytest.mark.usefixtures("small_shards")


def expected_scores(
    predictor: fg.Predictor, contigs: dict[str, str], lines: list[Line], strand: str = "both"
) -> NDArray[np.float64]:
    """(n, 3) reference, alternative, difference of the alleles that can be scored, one window at a time."""
    rows = []
    for line in lines:
        for alt in line.alts:
            windows = verdict(contigs, line, alt, WINDOW, 0.1)
            if not isinstance(windows, str):
                rows.append([one_score(predictor, letters, strand) for letters in windows])
    scores = np.array(rows)
    return np.column_stack([scores, scores[:, 1] - scores[:, 0]])


@pytest.mark.parametrize("strand", ["both", "forward", "reverse"])
def test_score_variants_gives_the_scores_of_edited_strings(
    strand: str, predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = some_lines(contigs)
    source = write(tmp_path / "in.vcf", vcf(lines))
    out = tmp_path / "out.parquet"
    report = fg.score_variants(predictor, source, genome, out=out, window=WINDOW, strand=strand, run=ONE)
    expected = expected_scores(predictor, contigs, lines, strand)
    assert len(expected) > 80
    np.testing.assert_allclose(table_scores(out), expected, rtol=0, atol=2e-6)
    found = table_scores(out)
    assert (found[:, 2] == found[:, 1] - found[:, 0]).all()
    table = parquet.read_table(out).to_pydict()
    scored = [
        (line.contig, line.pos - 1, line.pos - 1 + len(line.ref), line.id.replace(".", ""), line.ref, alt)
        for line in lines
        for alt in line.alts
        if not isinstance(verdict(contigs, line, alt, WINDOW, 0.1), str)
    ]
    places = ("contig", "start", "end", "id", "ref", "alt")
    assert list(zip(*(table[name] for name in places), strict=True)) == scored
    assert report.n_scored == len(scored)
    assert report.figures == FIGURES


def test_score_variants_of_a_model_gives_distances_of_embeddings(
    contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    model = fg.load("tiny", dtype="float32")
    lines = [line for line in some_lines(contigs, 60) if len(line.alts) == 1]
    source = write(tmp_path / "in.vcf", vcf(lines))
    out = tmp_path / "out.parquet"
    fg.score_variants(model, source, genome, out=out, window=WINDOW, run=ONE)
    expected = []
    for line in lines:
        windows = verdict(contigs, line, line.alts[0], WINDOW, 0.1)
        if isinstance(windows, str):
            continue
        pairs = [windows, tuple(map(reverse_complement, windows))]
        vectors = [[model.embed([letters])[0].astype(float) for letters in pair] for pair in pairs]
        cosine = np.mean([distance.cosine(*pair) for pair in vectors])
        expected.append([cosine, np.mean([distance.euclidean(*pair) for pair in vectors])])
    table = parquet.read_table(out)
    found = np.column_stack([table["cosine_distance"].to_numpy(), table["l2_distance"].to_numpy()])
    assert len(expected) > 10
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)


def test_score_variants_scores_several_classes(genome: Path, contigs: dict[str, str], tmp_path: Path) -> None:
    draw = random.Random(3)
    sequences = ["".join(draw.choices("ACGT", k=WINDOW)) for _ in range(60)]
    classes = ["no", "a b", 'x"y;z=']
    several = fg.finetune((sequences, [classes[i % 3] for i in range(60)]), model=None, features=("gc",))
    source = write(tmp_path / "in.vcf", vcf([Line("1", 5, ".", contigs["1"][4], ("GATT",))]))
    outs = [tmp_path / "out.vcf.gz", tmp_path / "out.bcf", tmp_path / "out.parquet"]
    report = fg.score_variants(several, source, genome, out=outs, window=WINDOW, run=ONE)
    assert len(report.figures) == 9
    table = parquet.read_table(outs[2])
    for path in outs[:2]:
        with pysam.VariantFile(str(path)) as file:
            record = next(file)
            for name in report.figures:
                field = "FG_" + re.sub("[^A-Za-z0-9_.]", "_", name)
                assert record.info[field] == (table[name][0].as_py(),)


def every_reason() -> tuple[dict[str, str], list[Line]]:
    contigs = {"1": "ACGT" * 20, "chrM": "ACGT" * 20, "MT": "ACGT" * 20, "short": "ACGT", "n": "A" + "N" * 60}
    lines = [
        Line("1", 1, "good", "A", ("C",)),
        Line("1", 5, "several", "AC", ("A", "<DEL>", "ACG", "*")),
        Line("1", 5, "end", "A", ("A[1:9[", "]1:9]A", ".A", "R", "a")),
        Line("1", 2, "none", "C", ()),
        Line("gone", 1, "contig", "A", ("C",)),
        Line("M", 1, "names", "A", ("C",)),
        Line("1", 0, "telomere", "N", ("A",)),
        Line("1", 80, "beyond", "TA", ("T",)),
        Line("1", 81, "behind", "A", ("T",)),
        Line("1", 4, "wrong", "A", ("T", "<DUP>")),
        Line("1", 4, "long", "T", ("T" * 25,)),
        Line("short", 1, "little", "A", ("C",)),
        Line("n", 1, "unknown", "A", ("C",)),
    ]
    return contigs, lines


def test_score_variants_gives_each_reason_in_the_report(predictor: fg.Predictor, tmp_path: Path) -> None:
    contigs, lines = every_reason()
    genome, source = write(tmp_path / "g.fa", fasta(contigs)), write(tmp_path / "in.vcf", vcf(lines))
    out = tmp_path / "out.tsv"
    report = fg.score_variants(
        predictor, source, genome, out=out, window=WINDOW, max_ref_mismatch=0.5, run=ONE
    )
    assert report.reasons == {
        "symbolic_allele": 2,
        "spanning_deletion": 1,
        "breakend": 3,
        "ambiguous_letters": 1,
        "same_as_reference": 1,
        "no_alternative": 1,
        "unknown_contig": 1,
        "ambiguous_contig": 1,
        "position_zero": 1,
        "beyond_contig_end": 2,
        "ref_mismatch": 1,
        "allele_too_long": 1,
        "contig_too_short": 1,
        "too_many_n": 1,
    }
    assert (report.n_in, report.n_scored, report.n_records) == (21, 3, 13)
    assert [row.split("\t")[:6] for row in out.read_text().splitlines()[1:]] == [
        ["1", "0", "1", "good", "A", "C"],
        ["1", "4", "6", "several", "AC", "A"],
        ["1", "4", "6", "several", "AC", "ACG"],
    ]
    stored = json.loads((tmp_path / "out.tsv.report.json").read_text())
    assert [(r["number"], r["id"], r["reason"]) for r in stored["alleles"]["rejections"]][:3] == [
        (2, "several", "symbolic_allele"),
        (2, "several", "spanning_deletion"),
        (3, "end", "breakend"),
    ]
    assert len(stored["alleles"]["rejections"]) == 18
    assert stored == json.loads(json.dumps(report.to_dict()))
    assert "21 alleles, 3 scored, 18 rejected" in report.summary()


def wrong(line: Line) -> Line:
    other = "ACGT"[("ACGT".index(line.ref) + 1) % 4]
    return line._replace(ref=other, alts=(line.ref,))


@pytest.mark.parametrize(
    ("lines", "mismatches", "most", "stops"),
    [(20, 1, 0.01, True), (100, 1, 0.01, False), (199, 2, 0.01, True), (200, 2, 0.01, False),
     (20, 1, 0.05, False), (20, 2, 0.05, True), (1, 1, 0.99, True), (1, 1, 1, False)],
)  # fmt: skip
def test_score_variants_stops_at_a_wrong_build_before_any_scoring(
    lines: int,
    mismatches: int,
    most: float,
    stops: bool,
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = true_lines(contigs, lines)
    made = [wrong(line) for line in good[:mismatches]] + good[mismatches:]
    # Neither lines of other contigs nor symbolic alleles are compared.
    made += [Line("gone", 1, ".", "A", ("C",)), Line("1", 1, ".", "N", ("<DEL>",))] * 50
    source = write(tmp_path / "in.vcf", vcf(made))
    folder = tmp_path / "results"
    folder.mkdir()
    arguments: dict[str, Any] = {
        "out": folder / "out.vcf",
        "window": WINDOW,
        "max_ref_mismatch": most,
        "run": ONE,
    }
    if not stops:
        report = fg.score_variants(predictor, source, genome, **arguments)
        assert report.reasons["ref_mismatch"] == mismatches
        assert report.n_scored == lines - mismatches
        return
    monkeypatch.setattr(fg.Predictor, "feature_matrix", None)
    with pytest.raises(InputError, match=f"{mismatches} of {lines} lines.*probable wrong build"):
        fg.score_variants(predictor, source, genome, **arguments)
    assert list(folder.iterdir()) == []


def test_score_variants_finds_contigs_by_another_name_and_says_so(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = true_lines(contigs, 30)
    plain = write(tmp_path / "plain.vcf", vcf(lines))
    other = write(tmp_path / "other.vcf", vcf([line._replace(contig="chr1") for line in lines]))
    expected, found = tmp_path / "plain.parquet", tmp_path / "other.parquet"
    assert fg.score_variants(predictor, plain, genome, out=expected, window=WINDOW, run=ONE).aliases == {}
    with pytest.warns(UserWarning, match="chr1 is 1") as warned:
        report = fg.score_variants(predictor, other, genome, out=found, window=WINDOW, run=ONE)
    assert len(warned) == 1
    assert report.aliases == {"chr1": "1"}
    assert "contig chr1 is 1" in report.summary()
    assert (table_scores(found) == table_scores(expected)).all()
    assert set(parquet.read_table(found)["contig"].to_pylist()) == {"chr1"}


def test_variants_command_scores_a_file(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "run")
    source = write(tmp_path / "in.vcf", vcf(some_lines(contigs, 30)))
    given = (tmp_path / "run", genome, source)
    outs = ("-o", tmp_path / "out.vcf.gz", "-o", tmp_path / "out.parquet")
    result = run_variants(*given, *outs, "--json", "--rejects", tmp_path / "no.tsv")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["alleles"]["n_in"] == report["alleles"]["n_scored"] + report["alleles"]["n_rejected"]
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == report["alleles"]["n_scored"]
    assert (tmp_path / "no.tsv").exists()
    text = run_variants(*given, "-o", tmp_path / "again.vcf")
    assert text.exit_code == 0
    assert "rejected record" in text.output
    for wrong_use in (("--saturate", "1:1-9"), ("--picture", "x.png")):
        failed = run_variants(*given, *wrong_use, *outs)
        assert failed.exit_code == 1
        assert "--saturate" in failed.output


def test_lines_of_random_files_hold_together() -> None:
    draw = random.Random(1)
    contigs = random_contigs(draw)
    lines = [random_line(draw, contigs) for _ in range(50)]
    assert list(parsed(vcf(lines))) == lines
