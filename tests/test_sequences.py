"""Reading of records: the account of every record, cleaning, and what is rejected or refused."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgenome import _core
from fastgenome.cleaning import why_not_dna
from fastgenome.errors import ArgumentError, InputError, RejectedRecordsError
from fastgenome.sequences import ReadOptions, SequenceRecord, clean_sequences, read_sequences

# Raw sequences with everything that may stand in one, DNA or not.
raw_sequences = st.text(alphabet="ACGTNacgtnUuRYSWKMBDHV-. *LEQ1é", max_size=30)


def reference_clean(raw: str) -> tuple[str, Counter[str]] | None:
    """Clean one sequence by the written rules; None for what is not DNA."""
    letters = "".join(raw.split())
    counts = Counter(gap=sum(letter in "-." for letter in letters))
    letters = letters.replace("-", "").replace(".", "")
    if re.search("[^ACGTUNRYSWKMBDHV]", letters, re.IGNORECASE):
        return None
    has_u, has_t = "U" in letters.upper(), "T" in letters.upper()
    if has_u and has_t:
        return None
    counts["lowercase"] = sum(letter.islower() for letter in letters)
    letters = letters.upper()
    counts["rna"] = letters.count("U")
    counts["iupac"] = sum(letter in "RYSWKMBDHV" for letter in letters)
    return re.sub("[RYSWKMBDHV]", "N", letters.replace("U", "T")), counts


def reference_account(raw: list[str], min_length: int = 1) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Return the usable (index, sequence) and the reasons of the others."""
    used, reasons = [], Counter()
    for index, sequence in enumerate(raw):
        cleaned = reference_clean(sequence)
        if cleaned is None:
            reasons["not_dna"] += 1
        elif not cleaned[0]:
            reasons["empty"] += 1
        elif len(cleaned[0]) < min_length:
            reasons["too_short"] += 1
        else:
            used.append((index, cleaned[0]))
    return used, reasons


@settings(deadline=None)
@given(raw=st.lists(raw_sequences, max_size=12), min_length=st.integers(1, 5), bases=st.integers(1, 60))
def test_read_sequences_accounts_for_every_string(raw: list[str], min_length: int, bases: int) -> None:
    used, reasons = reference_account(raw, min_length)
    reader = read_sequences(raw, min_length=min_length)
    found = []
    refused = not used or 2 * reasons["not_dna"] > len(raw)
    try:
        for batch in reader.batches(bases):
            assert batch
            found += batch
            assert reader.report.n_in == reader.report.n_out + reader.report.n_rejected
    except InputError:
        assert refused
    else:
        assert not refused
    report = reader.report
    assert found == [SequenceRecord(str(index + 1), sequence) for index, sequence in used]
    assert report.n_in == len(raw) == report.n_out + report.n_rejected
    assert report.n_out == len(found)
    assert report.bases_out == sum(len(record.sequence) for record in found)
    assert report.reasons == {reason: count for reason, count in reasons.items() if count}
    totals = sum((reference_clean(raw[index])[1] for index, _ in used), Counter())
    counted = (report.lowercase_bases, report.rna_bases, report.iupac_bases, report.gap_bases)
    assert counted == (totals["lowercase"], totals["rna"], totals["iupac"], totals["gap"])


@settings(deadline=None)
@given(raw=st.lists(raw_sequences, max_size=8))
def test_clean_sequences_cleans_all_or_names_the_bad(raw: list[str]) -> None:
    used, _ = reference_account(raw)
    if len(used) == len(raw):
        assert clean_sequences(raw) == [sequence for _, sequence in used]
        return
    bad = sorted(set(range(len(raw))) - {index for index, _ in used})
    with pytest.raises(InputError, match=rf"^{len(bad)} of {len(raw)} .*indexes {bad[0]} \("):
        clean_sequences(raw)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (["ACGT", "", "MKLV"], r"indexes 1 \(empty\), 2 \('L' at position 2 \(from 0\)\)"),
        (["ACGU", "ACTU"], r"indexes 1 \(both U and T\)"),
        (["ACGT", float("nan")], r"sequences\[1\] is float"),
        (["ACGT", b"ACGT"], r"sequences\[1\] is bytes"),
        (["ACGT", None], r"sequences\[1\] is NoneType"),
        (["L"] * 9, r"9 of 9 .*4 \('L' at position 0 \(from 0\)\), …$"),
    ],
    ids=["empty-and-protein", "both", "nan", "bytes", "none", "many"],
)
def test_clean_sequences_errors(sequences: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        clean_sequences(sequences)


def test_one_string_is_not_a_list_of_sequences() -> None:
    with pytest.raises(ArgumentError, match=r"\[sequence\]"):
        clean_sequences("ACGT")
    with pytest.raises(InputError, match=r"no file 'ACGTACGT'; give a single sequence as a list"):
        read_sequences("ACGTACGT")
    with pytest.raises(InputError, match="give a single sequence as a list"):
        read_sequences("ACGT" * 500)


@pytest.mark.parametrize(
    "source",
    [
        ["ACGT", "acg"],
        ("ACGT", "acg"),
        np.array(["ACGT", "acg"]),
        np.array(["ACGT", "acg"], dtype=object),
    ],
    ids=["list", "tuple", "numpy-str", "numpy-object"],
)
def test_read_sequences_takes_any_strings(source: object) -> None:
    assert list(read_sequences(source)) == [("1", "ACGT", ()), ("2", "ACG", ())]


def test_rejections_keep_positions() -> None:
    reader = read_sequences(["ACGT", "", "AC", "MKLV*", "ACGTA"], min_length=3)
    assert [record.id for record in reader] == ["1", "5"]
    assert [(one.number, one.id, one.reason) for one in reader.report.rejections] == [
        (2, "2", "empty"),
        (3, "3", "too_short"),
        (4, "4", "not_dna"),
    ]
    assert reader.report.rejections[1].detail == "2 bases, fewer than 3"
    assert reader.report.rejections[2].detail == "'L' at position 2 (from 0)"


def test_every_character_is_judged_as_the_core_does() -> None:
    for character in map(chr, range(0x3100)):
        _, counts = _core.clean([f"AC{character}GT", character])
        if counts[0, 4]:
            expected = "both U and T" if character in "uU" else f"{character!r} at position 2 (from 0)"
            assert why_not_dna(f"AC{character}GT") == expected
        else:
            # Accepted, so that only U beside T can be wrong.
            assert why_not_dna(f"AC{character}GT") == "both U and T"


def test_strict_reading_ends_with_an_error_and_its_account() -> None:
    reader = read_sequences(["ACGT", "", "AC"], strict=True)
    message = r"1 of the 3 records .* \(first record 2, '2': empty, no bases\)"
    with pytest.raises(RejectedRecordsError, match=message) as caught:
        list(reader)
    assert caught.value.report is reader.report
    assert (reader.report.n_in, reader.report.n_out, reader.report.complete) == (3, 2, True)
    assert len(list(read_sequences(["ACGT", "AC"], strict=True))) == 2


def test_read_options_read_as_read_sequences_does() -> None:
    table = b"x,ACGT,1\nx,NNN,0\ny,NN,1\nx,GG,1\n"
    options = {"format": "csv", "sequence_column": 1, "id_column": 0, "header": False}
    options |= {"on_duplicate": "reject", "on_all_n": "reject"}
    by_options = ReadOptions(**options).read(io.BytesIO(table), label_columns=(2,), min_length=3)
    by_arguments = read_sequences(io.BytesIO(table), label_columns=(2,), min_length=3, **options)
    assert list(by_options) == list(by_arguments) == [("x", "ACGT", ("1",))]
    assert by_options.report == by_arguments.report
    assert by_options.report.reasons == {"all_n": 1, "too_short": 2}


def test_only_the_first_thousand_rejections_are_kept() -> None:
    reader = read_sequences([""] * 1500 + ["ACGT"])
    assert len(list(reader)) == 1
    assert reader.report.reasons == {"empty": 1500}
    assert [one.number for one in reader.report.rejections] == list(range(1, 1001))


def test_protein_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.fa"
    path.write_text(">p1\nMKVLAA\n>p2\nMEEPQSDPSV\n>dna\nACGT\n")
    reader = read_sequences(path)
    message = (
        r"2 of the 3 records of .*p\.fa are not DNA \(record 1, 'p1': 'L' at position 3 \(from 0\)\).*protein"
    )
    with pytest.raises(InputError, match=message):
        list(reader)
    assert (reader.report.n_in, reader.report.n_out, reader.report.n_rejected) == (3, 1, 2)


def test_half_protein_is_rejected_record_by_record() -> None:
    reader = read_sequences(["MKVLAA", "ACGT"])
    assert [record.sequence for record in reader] == ["ACGT"]
    assert reader.report.reasons == {"not_dna": 1}


@pytest.mark.parametrize("source", [[], iter([]), io.BytesIO(b"")], ids=["list", "iterator", "file"])
def test_no_records_is_an_error(source: object) -> None:
    with pytest.raises(InputError, match=r"no records"):
        list(read_sequences(source))


def test_no_usable_record_is_an_error_with_the_account() -> None:
    with pytest.raises(InputError, match=r"no record .* 2 rejected \(too_short 1, empty 1\)"):
        list(read_sequences(["AC", ""], min_length=3))


def test_all_n_is_kept_or_rejected() -> None:
    sequences = ["ACGT", "NNNN", "RYSW", "nnA"]
    kept = read_sequences(sequences)
    assert [record.sequence for record in kept] == ["ACGT", "NNNN", "NNNN", "NNA"]
    assert kept.report.all_n_records == 2
    assert "2 records of N alone kept" in kept.report.summary()
    reader = read_sequences(sequences, on_all_n="reject")
    assert [record.sequence for record in reader] == ["ACGT", "NNA"]
    assert reader.report.reasons == {"all_n": 2}
    assert reader.report.all_n_records == 0


DUPLICATES = b">a\nACGT\n>b\nLLL\n>a\nCC\n>b\nGG\n>a\nTT\n>\nA\n>\nA\n"


@pytest.mark.parametrize(
    ("on_duplicate", "ids", "repeats", "reasons"),
    [
        ("keep", ["a", "a", "b", "a", "6", "7"], 2, {"not_dna": 1}),
        ("ignore", ["a", "a", "b", "a", "6", "7"], 0, {"not_dna": 1}),
        ("reject", ["a", "b", "6", "7"], 0, {"not_dna": 1, "duplicate_id": 2}),
    ],
)
def test_duplicate_ids(on_duplicate: str, ids: list[str], repeats: int, reasons: dict[str, int]) -> None:
    reader = read_sequences(io.BytesIO(DUPLICATES), format="fasta", on_duplicate=on_duplicate)
    assert [record.id for record in reader] == ids
    assert reader.report.duplicate_ids == repeats
    assert reader.report.reasons == reasons


TABLE = b"id,sequence,label,score\na,ACGT,1,0.5\nb,CCC,,1\nc,GGG,0,NaN\nd,TTT,nA,2\ne,AAA, 0 ,3\n"


@pytest.mark.parametrize(
    ("label_columns", "expected"),
    [
        ((), [("a", ()), ("b", ()), ("c", ()), ("d", ()), ("e", ())]),
        (("label",), [("a", ("1",)), ("c", ("0",)), ("e", ("0",))]),
        (("score", "label"), [("a", ("0.5", "1")), ("e", ("3", "0"))]),
        ((3,), [("a", ("0.5",)), ("b", ("1",)), ("d", ("2",)), ("e", ("3",))]),
    ],
    ids=["none", "one", "two", "number"],
)
def test_labels_and_missing_labels(label_columns: tuple[str | int, ...], expected: list[object]) -> None:
    reader = read_sequences(io.BytesIO(TABLE), format="csv", label_columns=label_columns)
    assert [(record.id, record.labels) for record in reader] == expected
    assert reader.report.n_in == 5
    assert reader.report.reasons.get("missing_label", 0) == 5 - len(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label_columns": ("target",)},
            r"no column 'target' \(label_columns\).*'id', 'sequence', 'label', 'score'",
        ),
        ({"sequence_column": "seq"}, r"no column 'seq' \(sequence_column\).*'id', 'sequence'"),
        ({"id_column": "name"}, r"no column 'name' \(id_column\)"),
        ({"sequence_column": 4}, r"no column 4 \(sequence_column\), but 4 from 0"),
        ({"sequence_column": -1}, r"no column -1"),
    ],
)
def test_missing_column_is_an_error_that_names_the_columns(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_sequences(io.BytesIO(TABLE), format="csv", **options))


@pytest.mark.parametrize("source", [["ACGT"], io.BytesIO(b">a\nACGT\n")], ids=["list", "fasta"])
def test_labels_need_a_table(source: object) -> None:
    with pytest.raises(ArgumentError, match=r"label_columns=.* needs a table"):
        list(read_sequences(source, label_columns=("label",)))


@pytest.mark.parametrize(
    "options",
    [
        {"min_length": 0},
        {"on_duplicate": "drop"},
        {"on_all_n": "ignore"},
        {"format": "genbank"},
        {"header": False},
        {"header": False, "sequence_column": 0, "label_columns": ("label",)},
    ],
    ids=["min_length", "on_duplicate", "on_all_n", "format", "header", "header-label"],
)
def test_bad_arguments_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=next(reversed(options)).split("_")[0]):
        read_sequences(["ACGT"], **options)


def test_batches_refuse_no_bases() -> None:
    with pytest.raises(ArgumentError, match="bases is 0"):
        read_sequences(["ACGT"]).batches(0)


def test_batches_end_by_bases_or_by_records(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(batch) for batch in read_sequences(["A" * 10] * 7).batches(25)]
    assert sizes == [3, 3, 1]
    monkeypatch.setattr("fastgenome.sequences._BATCH_RECORDS", 2)
    assert [len(batch) for batch in read_sequences(["A"] * 5).batches(1000)] == [2, 2, 1]


def test_a_list_is_read_again_with_a_new_report() -> None:
    reader = read_sequences(["ACGT", ""])
    first = list(reader)
    report = reader.report
    assert list(reader) == first
    assert reader.report == report
    assert reader.report is not report


def test_an_iterator_is_read_lazily_and_once() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "ACGT" * 250

    reader = read_sequences(endless())
    assert taken == 0
    assert len(next(reader.batches(10_000))) == 10
    assert taken == 10
    assert not reader.report.complete
    with pytest.raises(InputError, match="only once"):
        next(iter(reader))


def test_report_for_people_and_for_json() -> None:
    reader = read_sequences(["acGU", "", "AC-R", "L"])
    list(reader)
    assert reader.report.summary() == (
        "4 records read, 2 used, 2 rejected (empty 1, not_dna 1); 2 lower-case bases raised; "
        "1 U read as T; 1 IUPAC codes read as N; 1 gap characters removed"
    )
    report = json.loads(json.dumps(reader.report.to_dict()))
    assert (report["n_in"], report["n_out"], report["n_rejected"]) == (4, 2, 2)
    assert report["complete"] is True
    assert report["rejections"][0] == {"number": 2, "id": "2", "reason": "empty", "detail": "no bases"}
