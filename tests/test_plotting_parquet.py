"""Parquet tracks: no more is read than a region needs, and no more is held than is drawn."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plotting_files import Rows, expanded, per_base, write_parquet

from fastgenome.errors import ArgumentError, InputError
from fastgenome.plotting import score_tracks
from fastgenome.plotting.score_files import read_scores
from fastgenome.regions import Region


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file whose one row group leaves out nothing, and how many bytes its 2 million rows take in memory."""
    starts = np.arange(2_000_000)
    columns = {"contig": ["one"] * len(starts), "start": starts, "end": starts + 1, "score": starts % 97 / 97}
    table = pa.table(columns)
    path = tmp_path_factory.mktemp("large") / "t.parquet"
    pq.write_table(table, path, row_group_size=len(starts))
    return path, table.nbytes


@pytest.fixture
def pool(large: tuple[Path, int]) -> Iterator[pa.MemoryPool]:
    """What pyarrow takes its memory from, counted from the beginning of the test."""
    before = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counting)
    yield counting
    pa.set_memory_pool(before)


def damage(path: Path, column: str, groups: list[int]) -> None:
    """Overwrite what a Parquet file holds of a column in some row groups."""
    metadata = pq.read_metadata(path)
    at = metadata.schema.names.index(column)
    content = bytearray(path.read_bytes())
    for group in groups:
        chunk = metadata.row_group(group).column(at)
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        content[first : first + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


@pytest.mark.parametrize("encoded", [False, True], ids=["strings", "dictionary"])
def test_read_scores_of_parquet_reads_scores_of_the_region_alone(
    rows: Rows, encoded: bool, tmp_path: Path
) -> None:
    contigs = pa.array([row[0] for row in rows])
    path = write_parquet(
        tmp_path / "t.parquet", rows, contig=contigs.dictionary_encode() if encoded else contigs
    )
    groups = [rows[at : at + 17] for at in range(0, len(rows), 17)]
    locus = Region("one", 800, 1000)
    elsewhere = [
        number
        for number, group in enumerate(groups)
        if len({row[0] for row in group}) == 1
        and not any(name == "one" and start < 1000 and end > 800 for name, start, end, _ in group)
    ]
    assert 1 < len(elsewhere) < len(groups) - 1
    damage(path, "score", elsewhere)
    found = read_scores(path, [locus])
    segments = found.tracks[0].segments(locus)
    np.testing.assert_array_equal(expanded(segments, 800, 1000), per_base(rows, *locus))
    assert found.lengths == {name: max(end for c, _, end, _ in rows if c == name) for name in ("one", "two")}
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_scores(path)
    damage(path, "end", elsewhere[:1])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_scores(path, [locus])


def test_read_scores_of_parquet_without_statistics_reads_the_same(rows: Rows, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", rows)
    plain = tmp_path / "plain.parquet"
    pq.write_table(pq.read_table(path), plain, row_group_size=17, write_statistics=False)
    locus = Region("one", 800, 1000)
    first, second = (read_scores(name, [locus]).tracks[0].segments(locus) for name in (path, plain))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(first.values) > 5


@pytest.mark.parametrize("repeated", ["start", "score"])
def test_read_scores_of_parquet_refuses_columns_of_one_name(
    rows: Rows, repeated: str, tmp_path: Path
) -> None:
    table = pq.read_table(write_parquet(tmp_path / "t.parquet", rows))
    pq.write_table(table.append_column(repeated, table[repeated]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=f"several columns '{repeated}'"):
        read_scores(tmp_path / "t.parquet", [Region("one", 0, 100)])


def test_read_scores_of_parquet_counts_rows_before_it_reads_them(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "t.parquet", rows, other=[1.0] * len(rows))
    monkeypatch.setattr(score_tracks, "_MOST_INTERVALS", 2 * len(rows))
    assert len(read_scores(path).tracks) == 2
    groups = list(range(pq.read_metadata(path).num_row_groups))
    for column in ("contig", "start", "end", "score", "other"):
        damage(path, column, groups)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_scores(path)
    monkeypatch.setattr(score_tracks, "_MOST_INTERVALS", 2 * len(rows) - 1)
    with pytest.raises(ArgumentError, match="choose a smaller region"):
        read_scores(path)


def test_read_scores_of_parquet_holds_what_it_draws(
    large: tuple[Path, int], pool: pa.MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_tracks, "_MOST_INTERVALS", 100_000)
    path, size = large
    locus = Region("one", 1_000_000, 1_000_500)
    segments = read_scores(path, [locus]).tracks[0].segments(locus)
    np.testing.assert_array_equal(segments.values, np.arange(*locus[1:]) % 97 / 97)
    with pytest.raises(ArgumentError, match="more than 100,000 intervals there"):
        read_scores(path, [Region("one", 0, 2_000_000)])
    assert 0 < pool.max_memory() < size / 4
