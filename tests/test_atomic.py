"""Output folders: checked before the work, and complete or not there."""

import os
import stat
from pathlib import Path

import pytest

from fastgenome import atomic
from fastgenome.atomic import atomic_folder, check_output_folder
from fastgenome.errors import ArgumentError

MARKER = "run.json"


def write_run(path: Path, text: str, failure: Exception | None = None) -> None:
    with atomic_folder(path, marker=MARKER) as folder:
        (folder / MARKER).write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "data").write_text(text)
        if failure:
            raise failure


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("existing", ["nothing", "empty", "earlier"])
def test_atomic_folder_appears_whole(tmp_path: Path, existing: str) -> None:
    target = tmp_path / "a" / "run"
    if existing == "empty":
        target.mkdir(parents=True)
    elif existing == "earlier":
        write_run(target, "old")
        (target / "more").write_text("old")
    write_run(target, "new")
    assert content(target) == {MARKER: "new", "inner/data": "new"}
    assert os.listdir(target.parent) == ["run"]


def test_atomic_folder_obeys_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    write_run(tmp_path / "run", "x")
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_atomic_folder_keeps_a_link(tmp_path: Path) -> None:
    write_run(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_run(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / MARKER).read_text() == "new"


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("failing", ["block", "fsync", "first rename", "second rename"])
def test_atomic_folder_failing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, failing: str
) -> None:
    target = tmp_path / "run"
    if existing:
        write_run(target, "old")
    before = content(tmp_path)
    real_replace, calls = os.replace, []

    def fail_at(*arguments: str) -> None:
        calls.append(arguments)
        if failing == "fsync" or len(calls) == (1 if failing == "first rename" or not existing else 2):
            raise OSError("disk failure")
        real_replace(*arguments)

    if failing != "block":
        monkeypatch.setattr(atomic.os, "fsync" if failing == "fsync" else "replace", fail_at)
    with pytest.raises(OSError, match="disk failure"):
        write_run(target, "new", failure=OSError("disk failure") if failing == "block" else None)
    assert content(tmp_path) == before
    assert os.listdir(tmp_path) == (["run"] if existing else [])


def test_atomic_folder_always_leaves_one_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run", "old")
    events, real_fsync, real_replace = [], os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        same = is_folder and os.path.samestat(os.fstat(descriptor), tmp_path.stat())
        events.append("sync parent" if same else "sync folder" if is_folder else "sync file")
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        real_replace(source, target)
        events.append("rename")
        # What a loss of power at this moment would leave.
        assert "old" in content(tmp_path).values()
        assert list(content(tmp_path).values()).count("new") == 2

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    monkeypatch.setattr(atomic.os, "replace", replace)
    write_run(tmp_path / "run", "new")
    assert events == ["sync file", "sync folder"] * 2 + ["rename", "rename", "sync parent"]
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("links", [True, False])
def test_atomic_path_that_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def link(*arguments: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(atomic.os, "link", link)
    with atomic.atomic_path(tmp_path / "file", replace=False) as hidden:
        hidden.write_text("first")
    with pytest.raises(FileExistsError), atomic.atomic_path(tmp_path / "file", replace=False) as hidden:
        hidden.write_text("second")
    assert (tmp_path / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_check_output_folder_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    for path in (tmp_path, tmp_path / "full", tmp_path / "a" / "b"):
        assert check_output_folder(path) == path
    assert check_output_folder(tmp_path / "a" / "b", marker=MARKER) == tmp_path / "a" / "b"
    assert os.listdir(tmp_path) == ["full"]


@pytest.mark.parametrize("marker", [None, MARKER])
@pytest.mark.parametrize("path", ["file", "file/sub", "file/sub/deeper"])
def test_check_output_folder_refuses_files(tmp_path: Path, path: str, marker: str | None) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArgumentError, match="file is not a folder"):
        check_output_folder(tmp_path / path, marker=marker)


def test_check_output_folder_refuses_to_replace_other_folders(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ArgumentError, match=r"holds no run\.json"):
        check_output_folder(tmp_path, marker=MARKER)


@pytest.mark.parametrize(
    ("path", "marker", "refused"),
    [("out", None, "out"), ("out/a/b", None, "out"), ("out", MARKER, "."), ("out/a", MARKER, "out")],
)
def test_check_output_folder_asks_for_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, marker: str | None, refused: str
) -> None:
    (tmp_path / "out").mkdir()
    # Not chmod: an administrator may write everywhere.
    monkeypatch.setattr(atomic.os, "access", lambda folder, mode: folder != tmp_path / refused)
    with pytest.raises(ArgumentError, match="no permission"):
        check_output_folder(tmp_path / path, marker=marker)
