"""Result tables: read back by pandas, pyarrow and numpy, and what is left behind by failures."""

import errno
import gc
import gzip
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastgenome import atomic
from fastgenome.errors import ArgumentError
from fastgenome.scoring.sequence_table import write_sequence_table
from fastgenome.scoring.writers import ENDINGS, open_writer, takes_matrix_only

IDS = ["a", "b\twith tab", 'c "quoted", comma', "ü", "e"]
EMBEDDING = np.array(
    [[0.1, -1.5], [1e-30, 3.4e38], [np.inf, -0.0], [1 / 3, 7], [2.5, -np.inf]], dtype=np.float32
)


def columns(first: int, last: int) -> dict[str, object]:
    return {
        "id": IDS[first:last],
        "start": np.arange(first, last, dtype=np.int64) * 1000,
        "embedding": EMBEDDING[first:last],
    }


def write_parts(path: Path, *parts: dict[str, object], failure: BaseException | None = None) -> None:
    with open_writer(path) as writer:
        for part in parts:
            writer.write(part)
        if failure is not None:
            raise failure


def write_in_two_parts(path: Path) -> None:
    write_parts(path, columns(0, 3), columns(3, 5))


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".csv", ".csv.gz"])
def test_text_table_is_read_back_exactly_by_pandas(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    write_in_two_parts(path)
    table = pd.read_csv(path, sep="," if ".csv" in ending else "\t", dtype=str)
    assert list(table.columns) == ["id", "start", "embedding_0", "embedding_1"]
    assert table["id"].tolist() == IDS
    assert table["start"].tolist() == ["0", "1000", "2000", "3000", "4000"]
    assert table["embedding_0"].tolist()[:2] == ["0.1", "1e-30"]
    back = table[["embedding_0", "embedding_1"]].to_numpy().astype(np.float32)
    np.testing.assert_array_equal(back, EMBEDDING)


def test_gzip_output_repeats_byte_for_byte(tmp_path: Path) -> None:
    write_in_two_parts(tmp_path / "one.tsv.gz")
    write_in_two_parts(tmp_path / "two.tsv.gz")
    assert (tmp_path / "one.tsv.gz").read_bytes() == (tmp_path / "two.tsv.gz").read_bytes()
    # Four bytes of the gzip header hold a time.
    assert (tmp_path / "one.tsv.gz").read_bytes()[4:8] == bytes(4)
    assert gzip.decompress((tmp_path / "one.tsv.gz").read_bytes()).startswith(b"id\tstart\t")


def test_parquet_holds_fixed_size_lists_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    with open_writer(path, metadata={"model": "tiny"}) as writer:
        writer.write(columns(0, 3))
        writer.write(columns(3, 5))
    table = parquet.read_table(path)
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[2]"
    assert table.schema.metadata[b"model"] == b"tiny"
    assert table["id"].to_pylist() == IDS
    assert table["start"].to_pylist() == [0, 1000, 2000, 3000, 4000]
    np.testing.assert_array_equal(np.stack(table["embedding"].to_pandas()), EMBEDDING)
    assert parquet.ParquetFile(path).num_row_groups == 1


def test_parquet_flushes_row_groups_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgenome.scoring.writers._ROW_GROUP_BYTES", 64)
    write_in_two_parts(tmp_path / "out.parquet")
    file = parquet.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [3, 2]


def test_npy_is_the_matrix_in_order(tmp_path: Path) -> None:
    write_in_two_parts(tmp_path / "out.npy")
    matrix = np.load(tmp_path / "out.npy")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, EMBEDDING)
    assert np.load(tmp_path / "out.npy", mmap_mode="r").shape == (5, 2)


@pytest.mark.parametrize("ending", ENDINGS)
def test_table_without_rows_keeps_its_columns(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    with open_writer(path) as writer:
        writer.write(columns(0, 0))
    if ending == ".npy":
        assert np.load(path).shape == (0, 2)
    elif ending == ".parquet":
        assert parquet.read_table(path).column_names == ["id", "start", "embedding"]
    else:
        assert pd.read_csv(path, sep="," if ".csv" in ending else "\t").shape == (0, 4)


@settings(max_examples=50, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.floats(width=32, allow_nan=False),
    ),
    parts=st.integers(1, 6),
)
def test_every_float32_survives_every_format(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, parts: int
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    back = {}
    for ending in (".tsv", ".parquet", ".npy"):
        with open_writer(folder / f"x{ending}") as writer:
            for part in np.array_split(values, parts):
                writer.write({"v": part})
    back["tsv"] = pd.read_csv(folder / "x.tsv", sep="\t", dtype=str).to_numpy()
    back["parquet"] = np.stack(parquet.read_table(folder / "x.parquet")["v"].to_pandas())
    back["npy"] = np.load(folder / "x.npy")
    for found in back.values():
        np.testing.assert_array_equal(found.astype(np.float32), values)


def test_standard_output_gets_tsv(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_writer("-") as writer:
        writer.write({"id": ["a", "b"], "score": np.array([0.5, np.nan], dtype=np.float32)})
    assert capsysbinary.readouterr().out == b"id\tscore\na\t0.5\nb\tnan\n"
    print("still open")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_exception_in_the_middle_leaves_the_target_as_it_was(
    tmp_path: Path, ending: str, existing: bool
) -> None:
    path = tmp_path / f"out{ending}"
    if existing:
        path.write_bytes(b"from an earlier run")
    with pytest.raises(RuntimeError, match="the model failed"):
        write_parts(path, columns(0, 3), failure=RuntimeError("the model failed"))
    assert_untouched(path, existing)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_failing_fsync_leaves_the_target_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, existing: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "disk failure")

    path = tmp_path / f"out{ending}"
    if existing:
        path.write_bytes(b"from an earlier run")
    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match="disk failure"):
        write_parts(path, columns(0, 3))
    assert_untouched(path, existing)


def test_keyboard_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path / "out.parquet", columns(0, 3), failure=KeyboardInterrupt())
    assert os.listdir(tmp_path) == []


def test_content_is_synced_before_the_renaming_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        mode = os.fstat(descriptor)
        events.append("sync folder" if stat.S_ISDIR(mode.st_mode) else f"sync {mode.st_size > 0}")
        real_fsync(descriptor)

    def replace(source: str, target: str) -> None:
        events.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    monkeypatch.setattr(atomic.os, "replace", replace)
    write_in_two_parts(tmp_path / "out.tsv")
    assert events == ["sync True", "rename", "sync folder"]


def assert_untouched(path: Path, existing: bool) -> None:
    assert os.listdir(path.parent) == ([path.name] if existing else [])
    if existing:
        assert path.read_bytes() == b"from an earlier run"


def test_target_has_no_content_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.tsv"
    with open_writer(path) as writer:
        writer.write(columns(0, 5))
        assert not path.exists()
    assert path.exists()


def test_file_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    write_in_two_parts(tmp_path / "out.tsv")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "out.tsv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_link_is_kept_and_its_file_replaced(tmp_path: Path) -> None:
    real = tmp_path / "real" / "out.tsv"
    real.parent.mkdir()
    real.write_text("old")
    link = tmp_path / "out.tsv"
    link.symlink_to(real)
    write_in_two_parts(link)
    assert link.is_symlink()
    assert real.read_text().startswith("id\t")


def test_folder_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Root may write everywhere, so the refusal of the system is simulated.
    monkeypatch.setattr(atomic.os, "open", refuse)
    with pytest.raises(ArgumentError, match="Permission denied"), open_writer(tmp_path / "out.tsv"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArgumentError, match="Permission denied"), open_writer(tmp_path / "out.tsv"):
        pass


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ArgumentError, match="No such file or directory"),
        open_writer(tmp_path / "no" / "out.tsv"),
    ):
        pass


def test_pipe_or_directory_is_never_replaced(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "folder.tsv", tmp_path / "pipe.tsv"
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (folder, pipe):
        with pytest.raises(ArgumentError, match="not a regular file"):
            write_in_two_parts(path)
    assert folder.is_dir()
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["out.txt", "out", "out.gz", "out.parquet.gz", "tsv"])
def test_unknown_ending_is_an_error_at_once(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"\.tsv\.gz.*\.parquet, \.npy"):
        open_writer(name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_written_is_an_error(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ArgumentError, match="nothing was written"), open_writer(tmp_path / f"out{ending}"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"id": ["a"], "x": [1, 2]}], "must be of one length"),
        ([{}], "must be of one length"),
        ([{"x": np.zeros((2, 2, 2))}], r"array \(2, 2, 2\) of float64, expected"),
        ([{"x": np.zeros((2, 0))}], r"array \(2, 0\) of float64, expected"),
        ([{"x": np.array([["a"]])}], r"array \(1, 1\) of <U1, expected"),
        ([{"x": "abc"}], "column 'x' is str, expected"),
        ([{"x": [1], "y": [2]}, {"y": [2], "x": [1]}], "columns y, x differ from the first: x, y"),
        ([{"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}], r"x\[3\] differ from the first: x\[2\]"),
        ([{"x_0": [1], "x": np.zeros((1, 2))}], "repeated names: x_0"),
    ],
    ids=["lengths", "none", "three-d", "no-width", "text-matrix", "str", "order", "width", "repeated"],
)
def test_columns_that_do_not_fit_are_an_error(
    tmp_path: Path, parts: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        write_parts(tmp_path / "out.tsv", *parts)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_change_of_type_is_an_error(tmp_path: Path, ending: str) -> None:
    parts = {"x": np.zeros((1, 2), dtype=np.int32)}, {"x": np.full((1, 2), 0.5)}
    with pytest.raises(ArgumentError, match="first rows'"):
        write_parts(tmp_path / f"out{ending}", *parts)


@pytest.mark.parametrize(
    ("name", "expected"), [("a.npy", True), ("a.NPY", True), ("npy", False), ("-", False)]
)
def test_npy_takes_the_matrix_only(name: str, expected: bool) -> None:
    assert takes_matrix_only(Path(name)) is expected
    assert takes_matrix_only(name) is expected


def test_error_of_the_system_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*out\.tsv'") as caught:
        write_parts(tmp_path / "out.tsv", columns(0, 3))
    assert caught.value.filename == str(tmp_path / "out.tsv")


def test_computed_column_may_not_replace_the_id(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a computed column may not be called id"):
        write_sequence_table(["ACGT"], tmp_path / "out.tsv", lambda sequences: {"id": ["x"], "y": [1.0]})
    assert os.listdir(tmp_path) == []


def test_npy_needs_one_matrix(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="two-dimensional"):
        write_parts(tmp_path / "out.npy", {"x": [1.0]})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ENDINGS)
def test_failure_is_silent_besides_its_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str
) -> None:
    with pytest.raises(RuntimeError):
        write_parts(tmp_path / f"out{ending}", columns(0, 3), failure=RuntimeError())
    # An encoder that was left open would complain when it is collected.
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_writer_counts_rows_and_ends_with_its_block(tmp_path: Path) -> None:
    with open_writer(tmp_path / "out.tsv") as writer:
        writer.write(columns(0, 2))
        writer.write(columns(2, 5))
    assert writer.rows == 5
    with pytest.raises(ValueError, match="underlying buffer has been detached"):
        writer.write(columns(1, 2))
