"""Files of scored variants: inputs are kept, every format holds the same numbers, nothing is replaced."""

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from genome_files import bgzf, write
from scored_variants import (
    FIGURES,
    ONE,
    WINDOW,
    some_lines,
    table_scores,
    true_lines,
)
from small_variants import Line, vcf, verdict

import fastgenome as fg
from fastgenome.errors import ArgumentError

pysam = pytest.importorskip("pysam")
bcftools = pytest.importorskip("pysam.bcftools")
pytestmark = pytest.mark.usefixtures("small_shards")


def to_bcf(source: Path, path: Path) -> Path:
    bcftools.view("-Ob", "-o", str(path), str(source), catch_stdout=False)
    return path


def without_scores(line: str) -> str:
    """A line of VCF as it was before figures were added."""
    cells = line.split("\t")
    end = re.search("\r?\n?$", cells[7])[0] if len(cells) == 8 else ""
    info = [part for part in cells[7].rstrip("\r\n").split(";") if not part.startswith("FG_")]
    cells[7] = (";".join(info) or ".") + end
    return "\t".join(cells)


@pytest.mark.parametrize("kind", ["plain", "contigs", "carriage returns", "samples", "bgzip"])
def test_vcf_keeps_every_byte_but_for_its_new_fields(
    kind: str, predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = some_lines(contigs, 50)
    text = vcf(lines, list(contigs) if kind == "contigs" else None)
    if kind == "samples":
        text = "".join(
            row
            if row.startswith("##")
            else row[:-1] + ("\tFORMAT\ta\tb\n" if row[0] == "#" else "\tGT:ZZ\t0|1:3\t.\n")
            for row in text.splitlines(keepends=True)
        ).replace("\tDB\t", "\tAF=0.1000;UNKNOWN=x;DB\t")
    if kind == "plain":
        text = text.replace("\tDB\n", "\t.\n", 9)
    if kind == "carriage returns":
        text = text.replace("\n", "\r\n")
    content = text.encode()
    source = write(tmp_path / "in.vcf.gz", bgzf(content, 500) if kind == "bgzip" else content)
    out = tmp_path / "out.vcf"
    report = fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=ONE)
    written = out.read_bytes().decode().splitlines(keepends=True)
    added = [row for row in written if row.startswith(("##INFO=<ID=FG_", "##fastgenome="))]
    assert len(added) == 4
    assert all("Number=A,Type=Float" in row for row in added[1:])
    kept = [row if row.startswith("#") else without_scores(row) for row in written if row not in added]
    assert kept == text.splitlines(keepends=True)
    assert not any("\t.;" in row for row in written)
    scored = sum(row.count(".", row.find("FG_probability_1_ref")) > 0 for row in written if "FG_" in row)
    assert scored >= report.n_scored > 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\tGT\t0|1\n"], ids=["plain", "carriage return", "samples"])
def test_vcf_whose_info_ends_with_a_mark_gets_no_second_one(
    end: str, predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = true_lines(contigs, 4)
    infos = ["DB;", ".", "AF=0.1;DB;", "DB"]
    head = vcf([]).rstrip("\n") + ("\tFORMAT\ta" if "GT" in end else "")
    rows = [line.text(rest=f".\t.\t{info}").rstrip("\n") for line, info in zip(lines, infos, strict=True)]
    source = write(tmp_path / "in.vcf", head + "\n" + "".join(row + end for row in rows))
    outs = [tmp_path / "out.vcf", tmp_path / "out.bcf"]
    fg.score_variants(predictor, source, genome, out=outs, window=WINDOW, run=ONE)
    written = [row for row in outs[0].read_bytes().decode().split("\n") if row and row[0] != "#"]
    found = [row.split("\t")[7].split("FG_")[0] for row in written]
    assert found == ["DB;", "", "AF=0.1;DB;", "DB;"]
    assert ["\t".join(row.split("\t")[:7]) for row in written] == [row.rsplit("\t", 1)[0] for row in rows]
    for out in outs:
        with pysam.VariantFile(str(out)) as file:
            assert [list(record.info)[-3:] for record in file] == [[f"FG_{name}" for name in FIGURES]] * 4


def stored_bcf(path: Path) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The lines of the header, and the two parts of each record."""
    content = gzip.decompress(path.read_bytes())
    assert content[:3] == b"BCF"
    place = 9 + int.from_bytes(content[5:9], "little")
    header, records = content[9:place].rstrip(b"\0").splitlines(keepends=True), []
    while place < len(content):
        shared, individual = struct.unpack_from("<II", content, place)
        place += 8 + shared + individual
        records.append(
            (content[place - individual - shared : place - individual], content[place - individual : place])
        )
    return header, records


def test_bcf_keeps_every_byte_but_for_its_new_fields(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = some_lines(contigs, 60)
    wide = lines[0]._replace(contig="1", pos=9, alts=tuple(f"A{'C' * i}" for i in range(1, 21)))
    tags = "".join(f'##INFO=<ID=T{i},Number=1,Type=Float,Description="many">\n' for i in range(200))
    tags += '##INFO=<ID=END,Number=1,Type=Integer,Description="end">\n'
    text = vcf([wide._replace(ref=contigs["1"][8]), *lines], [*contigs, "elsewhere", "c"])
    text = text.replace("#CHROM", tags + "#CHROM").replace(
        "30.50\tq10\tDB", ".\t.\tT7=0.123456789;END=99;T199=1e-30"
    )
    text = "".join(
        row if row.startswith("##") else row[:-1] + ("\tFORMAT\ta\n" if row[0] == "#" else "\tGT\t0|1\n")
        for row in text.splitlines(keepends=True)
    )
    whole = to_bcf(write(tmp_path / "in.vcf", text), tmp_path / "all.bcf")
    # Numbers of fields that have gaps between them.
    source, out = tmp_path / "in.bcf", tmp_path / "out.bcf"
    bcftools.annotate("-x", "INFO/T5", "-Ob", "-o", str(source), str(whole), catch_stdout=False)
    report = fg.score_variants(predictor, source, genome, out=[out], window=WINDOW, run=ONE)
    before, after = stored_bcf(source), stored_bcf(out)
    added = [row for row in after[0] if b"ID=FG_" in row or row.startswith(b"##fastgenome=")]
    assert [row for row in after[0] if row not in added] == before[0]
    assert len(added) == 4
    assert len(after[1]) == len(before[1]) == len(lines) + 1
    for (shared, individual), (new, same) in zip(before[1], after[1], strict=True):
        assert same == individual
        assert new[:16] + new[18 : len(shared)] == shared[:16] + shared[18:]
    with pysam.VariantFile(str(out)) as file:
        records = list(file)
    assert len(records[0].info["FG_probability_1_delta"]) == 20
    values = [value for record in records for value in record.info.get("FG_probability_1_alt", ())]
    assert sum(value is not None for value in values) == report.n_scored > 30


@pytest.mark.parametrize("ending", ["vcf", "vcf.gz", "bcf"])
@pytest.mark.parametrize("given", ["vcf", "vcf.gz", "bcf"])
def test_every_output_holds_the_same_numbers(
    given: str, ending: str, predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    lines = some_lines(contigs, 60)
    text = vcf(lines, [*contigs, "elsewhere", "c"] if given == "bcf" else None).replace(
        "\tDB", "\tAF=0.1;MORE=1;DB"
    )
    source = write(tmp_path / "in.vcf", text)
    if given == "vcf.gz":
        source = write(tmp_path / "in.vcf.gz", bgzf(text.encode(), 300))
    if given == "bcf":
        text = text.replace("MORE=1;", "")
        source = to_bcf(write(source, text), tmp_path / "in.bcf")
    outs = [tmp_path / f"out.{ending}", tmp_path / "out.parquet", tmp_path / "out.tsv.gz"]
    report = fg.score_variants(predictor, source, genome, out=outs, window=WINDOW, run=ONE)
    assert list(report.outputs) == [*map(str, outs), f"{outs[0]}.rejected.tsv"]
    rows = iter(parquet.read_table(outs[1]).to_pylist())
    with pysam.VariantFile(str(outs[0])) as file:
        records = list(file)
    assert len(records) == len(lines)
    for line, record in zip(lines, records, strict=True):
        assert (record.contig, record.pos, record.id or ".", record.ref) == line[:4]
        assert (record.alts or ()) == line.alts
        assert "DB" in record.info
        values = [record.info.get(f"FG_{name}", (None,) * len(line.alts)) for name in FIGURES]
        for allele, alt in enumerate(line.alts):
            found = [value[allele] for value in values]
            if isinstance(verdict(contigs, line, alt, WINDOW, 0.1), str):
                assert found == [None] * 3
            else:
                row = next(rows)
                assert (row["ref"], row["alt"]) == (line.ref, alt)
                assert found == [row[name] for name in FIGURES]
    assert next(rows, None) is None
    viewed = bcftools.view("-H", str(outs[0])).splitlines()
    assert len(viewed) == len(lines)
    if ending == "vcf.gz":
        assert pysam.BGZFile(str(outs[0])).read().decode().count("\n") > len(lines)


def test_table_holds_the_same_numbers_as_text(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(some_lines(contigs, 60)))
    outs = [tmp_path / "out.tsv", tmp_path / "out.parquet", tmp_path / "out.csv"]
    fg.score_variants(predictor, source, genome, out=outs, window=WINDOW, run=ONE)
    expected = parquet.read_table(outs[1]).to_pydict()
    for path, mark in ((outs[0], "\t"), (outs[2], ",")):
        rows = [row.split(mark) for row in path.read_text().splitlines()]
        assert rows[0] == list(expected)
        found = np.array([row[-3:] for row in rows[1:]], dtype=np.float32)
        assert (found == table_scores(outs[1])).all()


@pytest.mark.parametrize("lines", [[], [Line("1", 1, ".", "A", ("<DEL>",))]])
@pytest.mark.parametrize("name", ["vcf", "bcf", "parquet", "tsv"])
def test_outputs_without_a_scored_allele_are_whole(
    lines: list[Line], name: str, predictor: fg.Predictor, genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(lines, ["1"]))
    out = tmp_path / f"out.{name}"
    report = fg.score_variants(predictor, source, genome, out=out, window=WINDOW, run=ONE)
    assert (report.n_in, report.n_scored) == (len(lines), 0)
    if name == "parquet":
        assert parquet.read_table(out).schema.names[-3:] == list(FIGURES)
        assert parquet.read_schema(out).field("contig").type == "string"
    elif name == "tsv":
        assert out.read_text().split("\t")[:3] == ["contig", "start", "end"]
    else:
        with pysam.VariantFile(str(out)) as file:
            assert {f"FG_{figure}" for figure in FIGURES} <= set(file.header.info)
            assert len(list(file)) == len(lines)


def test_score_variants_refuses_fields_that_are_there_already(
    predictor: fg.Predictor, contigs: dict[str, str], genome: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.vcf", vcf(true_lines(contigs, 20)))
    once, twice = tmp_path / "once.vcf", tmp_path / "twice.vcf"
    fg.score_variants(predictor, source, genome, out=once, window=WINDOW, run=ONE)
    with pytest.raises(ArgumentError, match="INFO/FG_probability_1_ref already"):
        fg.score_variants(predictor, once, genome, out=twice, window=WINDOW, run=ONE)
    fg.score_variants(
        predictor, once, genome, out=twice, window=WINDOW, strand="forward", info_prefix="FWD_", run=ONE
    )
    with pysam.VariantFile(str(twice)) as file:
        record = next(file)
        assert {"FG_probability_1_alt", "FWD_probability_1_alt"} <= set(record.info)
    with pytest.raises(ArgumentError, match="info_prefix"):
        fg.score_variants(predictor, source, genome, out=twice, window=WINDOW, info_prefix="1 ", run=ONE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "out.npy"}, "ending"),
        ({"out": "in.vcf"}, "is the input itself"),
        ({"out": "genome.fa"}, "ending"),
        ({"out": "out.vcf", "rejects": "out.vcf"}, "ending"),
        ({"out": "out.tsv", "rejects": "out.tsv"}, "different files"),
        ({"out": ["out.tsv", "out.tsv"]}, "different files"),
        ({"out": []}, "one or more"),
        ({"out": "out.vcf", "window": 0}, "window"),
        ({"out": "out.vcf", "window": 1}, "at least"),
        ({"out": "out.vcf", "strand": "up"}, "strand"),
        ({"out": "out.vcf", "max_n": 2}, "max_n"),
        ({"out": "out.vcf", "max_ref_mismatch": -1}, "max_ref_mismatch"),
        ({"out": "nowhere/in.vcf/out.vcf"}, "not a folder"),
    ],
)
def test_score_variants_refuses_arguments_that_do_not_fit(
    changes: dict[str, Any],
    message: str,
    predictor: fg.Predictor,
    contigs: dict[str, str],
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere").mkdir()
    write(tmp_path / "nowhere/in.vcf", "")
    source = write(tmp_path / "in.vcf", vcf(true_lines(contigs, 5)))
    with pytest.raises(ArgumentError, match=message):
        fg.score_variants(predictor, source, genome, **{"window": WINDOW, "run": ONE, **changes})
    assert parquet  # nothing was made:
    assert {path.name for path in tmp_path.iterdir()} <= {"in.vcf", "genome.fa", "genome.fa.fgi", "nowhere"}
