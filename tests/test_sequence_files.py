"""Files of sequences: every format against an independent reader, compression, and damage of every kind."""

import csv
import gzip
import io
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgenome import _core
from fastgenome.errors import InputError, TruncatedInputError
from fastgenome.sequences import read_sequences

names = st.text(alphabet="abcXYZ012_|:;=>@+ü", max_size=8)
dna = st.text(alphabet="ACGTNacgtn", max_size=40)
line_ends = st.sampled_from(["\n", "\r\n"])


def read(content: bytes, **options: object) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return (id, sequence) of the usable records and the reasons of the others."""
    reader = read_sequences(io.BytesIO(content), **options)
    try:
        records = [(record.id, record.sequence) for record in reader]
    except InputError:
        # A file without a usable record: its account must still be complete.
        if reader.report.n_out or not reader.report.complete:
            raise
        records = []
    assert reader.report.n_in == len(records) + reader.report.n_rejected
    return records, reader.report.reasons


@settings(max_examples=200, deadline=None)
@given(
    records=st.lists(st.tuples(names, st.lists(dna, max_size=4), st.booleans()), min_size=1, max_size=6),
    line_end=line_ends,
    bom=st.booleans(),
    last=st.booleans(),
)
def test_fasta_is_read_like_a_plain_parser_does(
    records: list[tuple[str, list[str], bool]], line_end: str, bom: bool, last: bool
) -> None:
    lines = []
    for name, parts, described in records:
        lines += [f">{name}" + (" a description > with words" if described else "  "), *parts]
    text = line_end.join(lines) + (line_end if last else "")
    expected, empty = [], 0
    for number, (name, parts, described) in enumerate(records, 1):
        sequence = "".join(parts).upper()
        shown = name or ("a" if described else str(number))
        expected += [(shown, sequence)] if sequence else []
        empty += not sequence
    content = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    assert read(content, format="fasta") == (expected, {"empty": empty} if empty else {})


@settings(max_examples=200, deadline=None)
@given(
    records=st.lists(st.tuples(names, dna, st.integers(-1, 1)), min_size=1, max_size=6),
    line_end=line_ends,
    blank=st.booleans(),
)
def test_fastq_is_read_like_a_plain_parser_does(
    records: list[tuple[str, str, int]], line_end: str, blank: bool
) -> None:
    lines, expected, reasons = [], [], {}
    for name, sequence, change in records:
        quality = "@" * max(0, len(sequence) + change)
        lines += [f"@{name} 1:N:0", sequence, "+" + name, quality] + [""] * blank
        if len(quality) != len(sequence):
            reasons["malformed"] = reasons.get("malformed", 0) + 1
        elif not sequence:
            reasons["empty"] = reasons.get("empty", 0) + 1
        else:
            expected.append((name or "1:N:0", sequence.upper()))
    content = (line_end.join(lines) + line_end).encode()
    assert read(content, format="fastq") == (expected, reasons)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet=">@+ACGT a\n\r", max_size=60).map(str.encode),
    line=st.sampled_from([b"", b"ACGTACGTAC" * 8 + b"\n", b">x\n" + b"ACGTA" * 14 + b" \r\n"]),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    format=st.sampled_from(["fasta", "fastq"]),
    bases=st.integers(1, 40),
    records=st.integers(1, 4),
    instructions=st.sampled_from(["baseline", "avx2", "avx512"]),
)
def test_parser_does_not_depend_on_how_the_bytes_are_cut(
    text: bytes, line: bytes, cuts: list[int], format: str, bases: int, records: int, instructions: str
) -> None:
    def parse(pieces: list[bytes]) -> tuple[list[tuple[str, str, list[int], object]], str]:
        parser = _core.SequenceParser(format)
        parsed = []

        def take(rest: bool) -> None:
            while (taken := parser.take(bases, records, rest)) is not None:
                ids, sequences, counts, suspects = taken
                for index, row in enumerate(zip(ids, sequences, counts.tolist(), strict=True)):
                    parsed.append((*row, suspects.get(index)))

        try:
            for piece in pieces:
                parser.feed(piece)
                take(False)
            parser.finish()
            take(True)
        except ValueError as error:
            # Records before the error come or do not, depending on the piece; the error must be the same.
            return [], f"{type(error).__name__} {error}"
        return parsed, ""

    text = line * 2 + text
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[first:last] for first, last in pairwise(edges)]
    whole = parse([text])
    best = _core.limit_instruction_set("avx512")
    try:
        _core.limit_instruction_set(instructions)
        assert parse(pieces) == whole
    finally:
        _core.limit_instruction_set(best)


@pytest.mark.parametrize("line", [b"LE \r\nF\n", b"LE\t\nF \n", b"LEF  \n\n"], ids=["crlf", "tab", "blanks"])
def test_blanks_at_line_ends_are_dropped_wherever_a_piece_ends(line: bytes) -> None:
    text = b">a\n" + line + b">b\n"
    for cut in range(len(text)):
        parser = _core.SequenceParser("fasta")
        parser.feed(text[:cut])
        parser.feed(text[cut:])
        parser.finish()
        # Not DNA, so that the letters come as they were read.
        assert parser.take(1, 1)[3] == {0: ("LEF", "")}


def test_only_fasta_is_read_into_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.fq"
    path.write_bytes(b"@a\nAC\n+\nII\n")
    with path.open("rb") as file, pytest.raises(ValueError, match="only FASTA"):
        _core.SequenceParser("fastq").feed_from(file.fileno(), 100)


def test_plain_fasta_longer_than_a_piece_counts_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.fa"
    records = {f"r{i}": "ACGTN" * (i % 400 + 1) for i in range(1200)}
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    reader = read_sequences(path)
    assert {record.id: record.sequence for record in reader} == records
    assert reader.bytes_read == reader.bytes_total == path.stat().st_size > 1 << 20


@settings(max_examples=200, deadline=None)
@given(
    tens=st.lists(st.integers(1, 20), min_size=2, max_size=12),
    instructions=st.sampled_from(["baseline", "avx2", "avx512"]),
)
def test_lines_that_end_where_longer_ones_would_are_joined(tens: list[int], instructions: str) -> None:
    """With line ends included, all lengths are multiples of ten: line ends meet again and again."""
    # Not DNA, so that the letters come as they were read: cleaning would remove a line end left in them.
    lines = ["LFE"[number % 3] * (10 * ten - 1) for number, ten in enumerate(tens)]
    lines = [lines[0], *lines, lines[0] * 3]
    best = _core.limit_instruction_set("avx512")
    try:
        _core.limit_instruction_set(instructions)
        parser = _core.SequenceParser("fasta")
        parser.feed((">a\n" + "\n".join(lines) + "\n" + ">b\n" * 40).encode())
        parser.finish()
    finally:
        _core.limit_instruction_set(best)
    _, _, counts, suspects = parser.take(1, 1)
    assert suspects == {0: ("".join(lines), "")}
    assert counts[0, 4] == len("".join(lines))


@pytest.mark.parametrize(
    ("content", "format", "error", "message"),
    [
        (b"ACGT\n>a\nACGT\n", "fasta", InputError, "line 1: a FASTA file begins with '>'"),
        (
            b"\n\n@a\nAC\n+\nII\nACGT\n",
            "fastq",
            InputError,
            "record 2, line 7: a FASTQ record begins with '@'",
        ),
        (b"@a\nAC\nGT\n+\nIIII\n", "fastq", InputError, "record 1, line 3: the third line"),
        (b"@a\nAC\n+\nII\n@b\nAC\n+\n", "fastq", TruncatedInputError, "record 2, line 7: the input ends"),
        (b"@a\nAC\n+\nII\n@b\nAC\n+", "fastq", TruncatedInputError, "record 2, line 7: the input ends"),
        (b"@a\nAC\n+\nII\n@b\n", "fastq", TruncatedInputError, "record 2, line 5: the input ends"),
        (b">a\rACGT\r>b\rACGT\r", "fasta", InputError, "record 1, line 1: .*carriage return"),
    ],
    ids=["no-header", "no-at", "lines", "no-quality", "no-newline", "header-only", "carriage-returns"],
)
def test_malformed_fasta_and_fastq(content: bytes, format: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        list(read_sequences(io.BytesIO(content), format=format))


def test_fastq_record_with_wrong_quality_is_rejected_with_its_number() -> None:
    reader = read_sequences(io.BytesIO(b"@a\nAC\n+\nII\n@b\nACG\n+\nII\n@c\nA\n+\nI\n"))
    assert [record.id for record in reader] == ["a", "c"]
    rejection = reader.report.rejections[0]
    assert (rejection.number, rejection.id, rejection.reason) == (2, "b", "malformed")
    assert rejection.detail == "3 bases but 2 quality values"


def test_fastq_cut_at_any_byte_loses_no_record_silently() -> None:
    """Cut between records it is a shorter file; anywhere else an error, or a reject that is counted."""
    records = [b"@%d x\n%s\n+\n%s\n" % (i, b"ACGT" * i, b"IIII" * i) for i in (1, 2, 3)]
    content = b"".join(records)
    whole = [len(b"".join(records[:count])) for count in range(1, 4)]
    for size in range(1, len(content) + 1):
        reader = read_sequences(io.BytesIO(content[:size]), format="fastq")
        begun = sum(end < size for end in [0, *whole[:-1]])
        try:
            used = [record.id for record in reader]
        except InputError:
            continue
        # The newline behind the qualities may be missing.
        if size in whole or size + 1 in whole:
            assert used == ["1", "2", "3"][:begun]
        else:
            assert len(used) < begun
            assert reader.report.reasons == {"malformed": 1}


@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
def test_last_fastq_record_may_be_empty(end: bytes) -> None:
    assert read(b"@a\nAC\n+\nII\n@b\n\n+" + end) == ([("a", "AC")], {"empty": 1})


def test_letters_are_cleaned_and_counted() -> None:
    reader = read_sequences(io.BytesIO(b">a\nac-gt..\n>b\nACGURY\n>c\nAC GT\n\nAC*\n"))
    assert [record.sequence for record in reader] == ["ACGT", "ACGTNN"]
    report = reader.report
    assert (report.lowercase_bases, report.gap_bases, report.rna_bases, report.iupac_bases) == (4, 3, 1, 2)
    assert report.rejections[0].detail == "'*' at position 7 (from 0)"


@settings(max_examples=300, deadline=None)
@given(
    raw=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ACGT", "NN", "A", "acn"])), min_size=1),
    min_length=st.sampled_from([1, 2, 4]),
    on_duplicate=st.sampled_from(["keep", "reject", "ignore"]),
    on_all_n=st.sampled_from(["keep", "reject"]),
    bases=st.sampled_from([1, 7, 1000]),
)
def test_fasta_without_defects_is_judged_by_the_rules(
    raw: list[tuple[str, str]], min_length: int, on_duplicate: str, on_all_n: str, bases: int
) -> None:
    """Batches in which no record need be refused are not looked at one by one; the account is the same."""
    expected, reasons, seen, repeated = [], {}, set(), 0
    for name, sequence in raw:
        all_n = on_all_n == "reject" and sequence == "NN"
        reason = "too_short" if len(sequence) < min_length else "all_n" if all_n else None
        if reason is None and on_duplicate == "reject" and name in seen:
            reason = "duplicate_id"
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        repeated += name in seen and on_duplicate == "keep"
        seen.add(name)
        expected.append((name, sequence.upper(), ()))
    content = "".join(f">{name}\n{sequence}\n" for name, sequence in raw).encode()
    reader = read_sequences(
        io.BytesIO(content), min_length=min_length, on_duplicate=on_duplicate, on_all_n=on_all_n
    )
    found = []
    try:
        for batch in reader.batches(bases):
            found += batch
    except InputError:
        assert not expected
    report = reader.report
    assert (found, report.reasons, report.duplicate_ids) == (expected, reasons, repeated)
    assert (report.n_in, report.n_out) == (len(raw), len(expected))
    assert report.bases_out == sum(len(sequence) for _, sequence, _ in expected)
    assert report.all_n_records == sum(sequence == "NN" for _, sequence, _ in expected)
    assert report.lowercase_bases == 3 * sum(sequence == "ACN" for _, sequence, _ in expected)


def test_name_that_is_not_utf8_keeps_its_record() -> None:
    assert read(b">caf\xe9 x\nACGT\n") == ([("caf\\xe9", "ACGT")], {})


cells = st.text(alphabet='ab,"\t\n\r ü', max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, dna, cells), max_size=6),
    extra=st.lists(st.sampled_from([-1, 0, 0, 0, 1]), min_size=6, max_size=6),
    delimiter=st.sampled_from([",", "\t"]),
    line_end=line_ends,
    bom=st.booleans(),
)
def test_tables_are_read_like_the_csv_module_does(
    rows: list[tuple[str, str, str]], extra: list[int], delimiter: str, line_end: str, bom: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(["name", "sequence", "other"])
    for (name, sequence, other), change in zip(rows, extra, strict=False):
        fields = [name, sequence, other, "more"]
        writer.writerow(fields[: 3 + change])
    expected, reasons = [], {}
    parsed = list(csv.reader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter))[1:]
    for number, row in enumerate((row for row in parsed if row), 1):
        reason = "malformed" if len(row) != 3 else "empty" if not row[1] else None
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            expected.append((row[0] or str(number), row[1].upper()))
    content = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    options = {"format": "csv" if delimiter == "," else "tsv", "id_column": "name"}
    assert read(content, **options) == (expected, reasons)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.none() | names, st.none() | dna, st.none() | st.integers(0, 9)), max_size=6),
    kind=st.sampled_from(
        [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
    ),
)
def test_parquet_is_read_like_pyarrow_does(
    rows: list[tuple[str | None, str | None, int | None]], kind: pa.DataType
) -> None:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    plain = pa.array(columns[1], pa.string())
    table = pa.table(
        {
            "label": pa.array(columns[2], pa.int64()),
            "id": pa.array(columns[0], pa.string()),
            "unused": pa.array([None] * len(rows), pa.float64()),
            "sequence": plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind),
        }
    )
    file = io.BytesIO()
    parquet.write_table(table, file, row_group_size=2)
    expected, reasons = [], {}
    for number, (name, sequence, label) in enumerate(rows, 1):
        reason = "empty" if not sequence else "missing_label" if label is None else None
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            expected.append((name or str(number), sequence.upper(), (str(label),)))
    reader = read_sequences(io.BytesIO(file.getvalue()), label_columns=("label",))
    if not expected:
        with pytest.raises(InputError):
            list(reader)
    else:
        assert list(reader) == expected
    assert reader.report.reasons == reasons
    assert reader.report.n_in == len(rows)


def test_parquet_from_disk_counts_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"sequence": ["ACGT"] * 5000, "y": range(5000)}).to_parquet(path)
    reader = read_sequences(path, label_columns=("y",))
    records = list(reader)
    assert [record.labels for record in records] == [(str(number),) for number in range(5000)]
    assert records[-1].id == "5000"
    assert reader.bytes_read == reader.bytes_total == path.stat().st_size


def test_parquet_column_without_text_is_an_error() -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"sequence": [1, 2]}), file)
    with pytest.raises(InputError, match=r"'sequence' .* holds int64, not text"):
        list(read_sequences(io.BytesIO(file.getvalue())))


def test_parquet_cut_anywhere_is_an_error() -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"sequence": ["ACGT", "CCCC"]}), file)
    content = file.getvalue()
    for size in range(len(content)):
        with pytest.raises(InputError):
            list(read_sequences(io.BytesIO(content[:size]), format="parquet"))
    with pytest.raises(TruncatedInputError, match="cut short: the footer of a Parquet file is missing"):
        list(read_sequences(io.BytesIO(content[:-1])))
    with pytest.raises(InputError, match="as Parquet"):
        list(read_sequences(io.BytesIO(content[:-8] + b"\xff\xff\xff\x7fPAR1")))


@settings(deadline=None)
@given(lines=st.lists(dna, min_size=1, max_size=8), line_end=line_ends)
def test_text_is_one_sequence_a_line(lines: list[str], line_end: str) -> None:
    expected = [(str(number), line.upper()) for number, line in enumerate(lines, 1) if line]
    empty = lines.count("")
    content = "".join(line + line_end for line in lines).encode()
    assert read(content, format="text") == (expected, {"empty": empty} if empty else {})


def test_table_without_header() -> None:
    content = b"ACGT\t1.5\nCCCC\t2.5\nGG\n"
    reader = read_sequences(
        io.BytesIO(content), format="tsv", header=False, sequence_column=0, label_columns=(1,)
    )
    assert list(reader) == [("1", "ACGT", ("1.5",)), ("2", "CCCC", ("2.5",))]
    assert reader.report.rejections[0].detail == "line 3: 1 fields instead of 2"


def test_table_takes_ids_from_an_id_column_when_there_is_one() -> None:
    assert read(b"sequence,id\nAC,x\nGT,\n", format="csv") == ([("x", "AC"), ("2", "GT")], {})
    assert read(b"sequence,name\nAC,x\n", format="csv") == ([("1", "AC")], {})


def test_field_longer_than_the_csv_limit_is_read() -> None:
    csv.field_size_limit(131_072)
    assert read(b"sequence,y\n" + b"A" * 300_000 + b",1\n", format="csv") == ([("1", "A" * 300_000)], {})


def test_unclosed_quote_is_an_error() -> None:
    with pytest.raises(InputError, match=r"quoted field that begins on line 3 .*not closed"):
        list(read_sequences(io.BytesIO(b'sequence,y\nACGT,1\nCCCC,"2\nGGGG,3\n'), format="csv"))


def test_damaged_quotes_are_a_malformed_row() -> None:
    reader = read_sequences(io.BytesIO(b'sequence,y\n"ACGT"x,1\nCCCC,2\n'), format="csv")
    assert [record.sequence for record in reader] == ["CCCC"]
    assert reader.report.reasons == {"malformed": 1}
    with pytest.raises(InputError, match="first line cannot be read"):
        list(read_sequences(io.BytesIO(b'"sequence"x,y\nCCCC,2\n'), format="csv"))


def test_repeated_column_name_is_an_error() -> None:
    with pytest.raises(InputError, match="2 columns 'sequence'"):
        list(read_sequences(io.BytesIO(b"sequence,sequence\nA,C\n"), format="csv"))


CONTENT = {
    "fasta": b">1\nACGT\n",
    "fastq": b"@1\nACGT\n+\nIIII\n",
    "csv": b"id,sequence\n1,ACGT\n",
    "tsv": b"id\tsequence\n1\tACGT\n",
    "text": b"ACGT\n",
}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *((f"x{ending}", "fasta") for ending in (".fa", ".FASTA", ".fna", ".ffn", ".frn", ".fas", ".fsa")),
        *((name, "fastq") for name in ("x.fq", "x.fastq", "x")),
        *((name, "csv") for name in ("x.csv", "x", "x.dat")),
        *((name, "tsv") for name in ("x.tsv", "x.tab", "x", "x.txt")),
        *((name, "text") for name in ("x.txt", "x")),
        *((name, "fasta") for name in ("x", "x.txt", "x.seq")),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_format_is_known_by_ending_or_by_content(
    tmp_path: Path, name: str, format: str, compressed: bool
) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(CONTENT[format]) if compressed else CONTENT[format])
    assert list(read_sequences(path)) == [("1", "ACGT", ())]


def test_unknown_format_names_the_argument(tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    path.write_text("seq;label\nACGT;1\n")
    with pytest.raises(InputError, match="pass format= one of fasta, fastq, csv"):
        read_sequences(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstandard"),
        (b"PK\x03\x04", "zip"),
        (">a\nACGT\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_other_compression_and_encoding_is_named(content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what):
        list(read_sequences(io.BytesIO(content)))


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*none\.fa"):
        read_sequences(tmp_path / "none.fa")
    with pytest.raises(InputError, match="is a directory"):
        read_sequences(tmp_path)
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match=r"cannot open .*: Not a directory"):
        read_sequences(tmp_path / "x" / "y")


def test_file_open_as_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="open it in binary mode"):
        list(read_sequences(io.StringIO(">a\nACGT\n")))


def plain_fasta(path: Path) -> list[tuple[str, str]]:
    """Read FASTA the short way."""
    with gzip.open(path, "rt") as file:
        return [
            (record.split(maxsplit=1)[0], "".join(record.split("\n")[1:]).upper())
            for record in file.read().lstrip(">").split("\n>")
        ]


@pytest.mark.parametrize(
    "name",
    [
        "yeast_genome/Saccharomyces_cerevisiae.R64-1-1.dna.toplevel.fa.gz",
        "iEnhancer2L/train_enhancers.fa.gz",
        "mouse_promoters/Mouse_tata.fa.gz",
    ],
)
def test_real_fasta(data_dir: Path, name: str) -> None:
    reader = read_sequences(data_dir / name)
    assert [(record.id, record.sequence) for record in reader] == plain_fasta(data_dir / name)
    assert reader.report.n_rejected == 0


@pytest.mark.parametrize(
    ("name", "sequence", "label", "header"),
    [
        ("gue/H3/dev.csv.gz", "sequence", "label", True),
        ("human_nontata_promoters/test.csv.gz", "seq", "label", True),
        ("yeast_half_life/scer_half_life.csv.gz", "UTR3_seq", "hlt.wt", True),
        ("yeast_3utr_reporter/shalem_15.tsv.gz", 0, 1, False),
    ],
)
def test_real_tables(data_dir: Path, name: str, sequence: str | int, label: str | int, header: bool) -> None:
    table = pd.read_csv(
        data_dir / name,
        sep="\t" if ".tsv" in name else ",",
        header=0 if header else None,
        dtype=str,
        keep_default_na=False,
    )
    reader = read_sequences(data_dir / name, sequence_column=sequence, label_columns=(label,), header=header)
    records = list(reader)
    assert reader.report.n_in == len(table)
    used = table[(table[sequence] != "") & (table[label] != "")]
    assert [record.sequence for record in records] == used[sequence].str.upper().tolist()
    assert [record.labels[0] for record in records] == used[label].tolist()
