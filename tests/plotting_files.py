"""Files of scores and genes for the tests of plotting, and what they mean base by base."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastgenome.plotting.segments import Segments

Rows = list[tuple[str, int, int, float]]

LENGTHS = {"one": 2000, "two": 300}

GENES = """#!genome-build made-up
one\tmade\tgene\t101\t400\t.\t+\t.\tgene_id "G1"; gene_name "ABC1";
one\tmade\ttranscript\t101\t400\t.\t+\t.\tgene_id "G1"; transcript_id "G1.1"; gene_name "ABC1";
one\tmade\texon\t101\t200\t.\t+\t.\tgene_id "G1"; transcript_id "G1.1"; exon_number "1";
one\tmade\texon\t301\t400\t.\t+\t.\tgene_id "G1"; transcript_id "G1.1"; exon_number 2;
one\tmade\texon\t151\t250\t.\t+\t.\tgene_id "G1"; transcript_id "G1.2"; exon_number "1";
one\tmade\tCDS\t1\t2\t.\t+\t0\tgene_id "G1";
one\tmade\texon\t351\t700\t.\t-\t.\ttranscript_id "G2.1"; gene_id "G2"; note "a; gene_name b";
one\tmade\tgene\t900\t901\t.\t.\t.\tgene_id "G3"; gene_name "x<y & $z$";
two\tmade\tgene\t5\t50\t.\t-\t.\tgene_id "G1"; gene_name "ELSE";
"""


def random_rows(seed: int, length: int, contig: str = "one", *, overlap: bool = False) -> Rows:
    """Intervals with float32 scores and gaps, in order."""
    rng = np.random.default_rng(seed)
    rows: Rows = []
    position = int(rng.integers(0, 9))
    while position < length - 20:
        size = int(rng.integers(1, 20))
        rows.append((contig, position, position + size, float(np.float32(rng.normal()))))
        position += int(rng.integers(1, size + 1)) if overlap else size + int(rng.integers(0, 3)) * 7
    return rows


def per_base(rows: Rows, contig: str, start: int, end: int) -> NDArray[np.float64]:
    """The mean of the scores over each base, one interval at a time; NaN where there is none."""
    sums, cover = np.zeros(end - start), np.zeros(end - start)
    for name, a, b, value in rows:
        a, b = max(a, start) - start, min(b, end) - start
        if name == contig and a < b and not np.isnan(value):
            sums[a:b] += value
            cover[a:b] += 1
    with np.errstate(invalid="ignore"):
        return sums / cover


def expanded(segments: Segments, start: int, end: int) -> NDArray[np.float64]:
    """Segments as a number for each base; NaN where there is none."""
    found = np.full(end - start, np.nan)
    for a, b, value in zip(segments.starts, segments.ends, segments.values, strict=True):
        assert np.isnan(found[a - start : b - start]).all()
        found[a - start : b - start] = value
    return found


def write_bigwig(path: Path, rows: Rows, lengths: dict[str, int]) -> Path:
    import pyBigWig

    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(lengths.items()))
        if rows:
            contigs, starts, ends, values = (list(column) for column in zip(*rows, strict=True))
            file.addEntries(contigs, starts, ends=ends, values=values)
    return path


def write_bedgraph(path: Path, rows: Rows) -> Path:
    lines = "".join(f"{contig}\t{start}\t{end}\t{value!r}\n" for contig, start, end, value in rows)
    content = ("track type=bedGraph\n# made up\n\n" + lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_parquet(path: Path, rows: Rows, **more: object) -> Path:
    contigs, starts, ends, values = zip(*rows, strict=True)
    columns = {"contig": contigs, "start": starts, "end": ends, "score": values, **more}
    pq.write_table(pa.table(columns), path, row_group_size=17)
    return path


def gc_windows(contig: str, letters: str, window: int) -> Rows:
    """The GC content of every window without N; the others have no score."""
    rows: Rows = []
    for start in range(0, len(letters) - window + 1, window):
        piece = letters[start : start + window].upper()
        if set(piece) <= set("ACGT"):
            gc = (piece.count("G") + piece.count("C")) / window
            rows.append((contig, start, start + window, float(np.float32(gc))))
    return rows
