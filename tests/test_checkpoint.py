"""Model directories: read back exactly as saved, and nothing damaged, foreign or misplaced is accepted."""

import builtins
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import (
    WeightFiles,
    assign_tensors,
    check_links,
    copy_vocabulary,
    read_config,
    read_tensors,
    save_checkpoint,
)

TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "a.bias": torch.ones(3),
    "b.weight": torch.zeros(2, 3),
}


def network() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(3, 2, bias=False)})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model", {"family": "x", "dim": 4}, TENSORS)
    return tmp_path / "model"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    shards = {"one.safetensors": ["a.weight"], "two.safetensors": ["a.bias", "b.weight"]}
    for file, names in shards.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_save_checkpoint_writes_what_other_readers_understand(saved: Path) -> None:
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text()) == {"family": "x", "dim": 4}
    assert equal(load_file(saved / "model.safetensors"), TENSORS)
    assert read_config(saved) == {"family": "x", "dim": 4}
    assert equal(read_tensors(saved), TENSORS)


def test_save_checkpoint_stores_the_type_asked_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {}, TENSORS | {"steps": torch.tensor(3)}, dtype=torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["a.weight"].dtype == torch.float16
    assert stored["steps"].dtype == torch.int64
    stored.pop("steps")
    save_file(stored, tmp_path / "model.safetensors")
    module = network()
    assign_tensors(module, read_tensors(tmp_path))
    assert module["a"].weight.dtype == torch.float32
    assert torch.equal(module["a"].weight, TENSORS["a.weight"])


@pytest.mark.parametrize("fault", ["sync", "tensors", "config", "vocabulary"])
def test_save_checkpoint_that_fails_leaves_what_stood_there(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    (saved / "vocab.txt").write_text("A\n")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    if fault == "sync":
        monkeypatch.setattr(os, "fsync", fail)
    if fault == "tensors":
        monkeypatch.setattr("safetensors.torch.save_file", fail)
    config = {"family": object() if fault == "config" else "y"}
    source = tmp_path / "gone" if fault == "vocabulary" else saved
    with pytest.raises((OSError, TypeError, CheckpointError)):
        save_checkpoint(saved, config, {"x": torch.ones(2)}, vocabulary=source)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


class Killed(BaseException):
    """What stops a save at a step, as SIGKILL would: nothing is tidied up after it."""


def saved_and_killed_at(step: int, directory: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save another model into `directory`, killed before the step-th change of a name; whether it was."""
    steps = iter(range(1000))

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: Any, **options: Any) -> object:
            if next(steps) >= step:
                raise Killed
            return change(*arguments, **options)

        return do

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "rmdir", "rename"):
            patch.setattr(os, name, counted(getattr(os, name)))
        # As after a kill, what was begun stays.
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        try:
            save_checkpoint(directory, {"family": "new"}, {"x": torch.ones(2)}, vocabulary=source)
        except Killed:
            return True
    return False


def test_save_checkpoint_killed_at_any_step_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(directory: Path) -> tuple[object, ...]:
        files = ("tokenizer.json", "vocab.txt")
        words = tuple((directory / f).read_text() if (directory / f).exists() else None for f in files)
        return (read_config(directory)["family"], *sorted(read_tensors(directory)), *words)

    source = tmp_path / "source"
    source.mkdir()
    (source / "tokenizer.json").write_text("new")
    seen = []
    for step in range(1000):
        directory = tmp_path / f"model_{step}"
        save_checkpoint(directory, {"family": "old"}, TENSORS)
        (directory / "vocab.txt").write_text("old")
        # An older format beside it must not come to life either.
        torch.save(TENSORS, directory / "pytorch_model.bin")
        killed = saved_and_killed_at(step, directory, source, monkeypatch)
        seen.append(state(directory) if (directory / "config.json").exists() else None)
        if not killed:
            break
    old, new = ("old", *sorted(TENSORS), None, "old"), ("new", "x", "new", None)
    assert set(seen) == {old, None, new}
    assert (seen[0], seen[-1]) == (old, new)
    assert sorted(os.listdir(directory)) == [
        "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"
    ]  # fmt: skip


def test_saved_files_can_be_read_by_whoever_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_checkpoint(tmp_path, {}, TENSORS)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o644"}


def test_copy_vocabulary_leaves_nothing_of_another_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, files in ((one, ("tokenizer.json", "spiece.model", "vocab.bpe")), (two, ("vocab.txt",))):
        folder.mkdir()
        for file in (*files, "tokenizer_config.json", "README.md"):
            (folder / file).write_text(f"{folder.name} {file}")
    copy_vocabulary(one, one)
    (tmp_path / "same").symlink_to(one)
    copy_vocabulary(tmp_path / "same", one)
    copy_vocabulary(one, two)
    found = {path.name: path.read_text() for path in two.iterdir()}
    names = ("tokenizer.json", "spiece.model", "vocab.bpe", "tokenizer_config.json")
    assert found == {name: f"one {name}" for name in names} | {"README.md": "two README.md"}
    copy_vocabulary(one / "tokenizer.json", two)
    assert sorted(os.listdir(two)) == ["README.md", "tokenizer.json"]
    with pytest.raises(CheckpointError, match="is gone"):
        copy_vocabulary(tmp_path / "nowhere", two)


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "vocab.bpe"])
def test_files_of_sentence_pieces_and_byte_pairs_are_vocabularies(tmp_path: Path, name: str) -> None:
    link(tmp_path / "model", name, tmp_path / "secret")
    for action in (check_links, lambda folder: copy_vocabulary(folder, tmp_path / "copy")):
        with pytest.raises(CheckpointError, match="nothing outside"):
            action(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    (tmp_path / "model" / name).write_text("x")
    (tmp_path / "copy").mkdir()
    copy_vocabulary(tmp_path / "model", tmp_path / "copy")
    assert os.listdir(tmp_path / "copy") == [name]


def test_weights_sha256_is_that_of_the_file_and_of_the_shards(saved: Path, sharded: Path) -> None:
    digest = hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    assert WeightFiles(saved).sha256 == digest
    before = WeightFiles(sharded).sha256
    save_file({"a.weight": TENSORS["a.weight"] + 1}, sharded / "one.safetensors")
    assert WeightFiles(sharded).sha256 != before


def test_read_tensors_joins_shards(sharded: Path) -> None:
    assert equal(read_tensors(sharded), TENSORS)


@pytest.mark.parametrize("keep", [0, 3, 8, 60, -1])
def test_read_tensors_refuses_truncated_files(saved: Path, keep: int) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_tensors(saved)


def test_read_tensors_refuses_a_damaged_header(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    refused = 0
    for position in range(8 + length):
        for bit in (0x01, 0x40):
            damaged = bytearray(content)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            try:
                tensors = read_tensors(saved)
                assign_tensors(network(), tensors)
            except CheckpointError:
                refused += 1
                continue
            assert equal({k: v.float() for k, v in tensors.items()}, TENSORS)
    assert refused > length


@pytest.mark.parametrize(
    "name",
    ["../one.safetensors", "/etc/passwd", "sub/one.safetensors", "..", "C:\\one.safetensors", "one.bin",
     ".hidden.safetensors", "", 7],
    ids=str,
)  # fmt: skip
def test_read_tensors_opens_nothing_outside_its_directory(
    sharded: Path, name: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["a.weight"] = name
    index.write_text(json.dumps(content))
    opened: list[str] = []
    plain_open = io.open

    def watch(file: object, *args: object, **kwargs: object) -> object:
        opened.append(str(file))
        return plain_open(file, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(io, "open", watch)
    monkeypatch.setattr(builtins, "open", watch)
    for read in (read_tensors, WeightFiles):
        with pytest.raises(CheckpointError, match="only plain names"):
            read(sharded)
    assert set(opened) <= {str(index)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "two.safetensors").unlink(), "two.safetensors"),
        (lambda d: save_file({"a.weight": TENSORS["a.weight"], "x": torch.ones(1)}, d / "one.safetensors"),
         "unexpected x"),
        (lambda d: save_file({"a.bias": TENSORS["a.bias"]}, d / "two.safetensors"), "missing b.weight"),
        (lambda d: (d / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
        (lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map"'), "cannot be read"),
        (lambda d: (d / "model.safetensors.index.json").unlink(), "neither"),
    ],
    ids=["no-shard", "more", "fewer", "no-map", "no-json", "no-index"],
)  # fmt: skip
def test_read_tensors_refuses_shards_unlike_their_index(
    sharded: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(sharded)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(sharded)


def test_read_tensors_opens_no_pickle_unasked(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is not that of a release known here"):
        read_tensors(tmp_path)
    torch.save(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\xff"], ids=["empty", "list", "open", "bytes"])
def test_read_config_refuses_what_is_no_json_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(tmp_path / "nowhere")


def link(directory: Path, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to(os.path.relpath(target, directory))


@pytest.mark.parametrize(
    ("directory", "target"),
    [
        ("models--a--b/snapshots/c0ffee", "models--a--b/blobs/1234"),
        ("models--a--b/snapshots/c0ffee", "blobs/12/1234"),
        ("model", "model/other.json"),
    ],
    ids=["blob", "shared-blob", "inside"],
)
def test_check_links_knows_the_hubs_cache(tmp_path: Path, directory: str, target: str) -> None:
    link(tmp_path / directory, "config.json", tmp_path / target)
    check_links(tmp_path / directory)
    # By another name for the directory, too.
    (tmp_path / "name").symlink_to(tmp_path / directory)
    check_links(tmp_path / "name")


@pytest.mark.parametrize(
    ("directory", "target"),
    [
        ("models--a--b/snapshots/c0ffee", "models--x--y/blobs/1234"),
        ("models--a--b/snapshots/c0ffee", "models--a--b/snapshots/other/config.json"),
        ("models--a--b/snapshots/c0ffee", "models--a--b/secret"),
        ("models--a--b/snapshots/c0ffee", "blobs/1234"),
        ("models--a--b/other/c0ffee", "models--a--b/blobs/1234"),
        ("model", "secret"),
        ("model", "model/sub/secret"),
    ],
    ids=["other-repository", "other-commit", "beside", "not-a-blob", "no-snapshot", "outside", "subfolder"],
)
def test_check_links_refuses_links_that_lead_out(tmp_path: Path, directory: str, target: str) -> None:
    link(tmp_path / directory, "vocab.txt", tmp_path / target)
    with pytest.raises(CheckpointError, match=r"vocab\.txt is a link to .*nothing outside"):
        check_links(tmp_path / directory)


def test_check_links_minds_only_what_is_read(tmp_path: Path) -> None:
    link(tmp_path / "model", "README.md", tmp_path / "README.md")
    (tmp_path / "runs").mkdir()
    (tmp_path / "model" / "runs").symlink_to(tmp_path / "runs")
    check_links(tmp_path / "model")


def test_assign_tensors_fills_a_module_without_storage() -> None:
    with torch.device("meta"):
        module = network()
    assign_tensors(module, TENSORS)
    assert equal(dict(module.state_dict()), TENSORS)
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.bias": None}, "missing a.bias"),
        ({"z": torch.ones(1)}, "unexpected z"),
        ({"a.bias": None, "A.bias": torch.ones(3)}, "missing a.bias; unexpected A.bias"),
        ({"a.bias": torch.ones(4)}, r"a.bias: shape \(4,\) instead of \(3,\)"),
        ({"a.weight": torch.zeros(4, 3)}, r"a.weight: shape \(4, 3\) instead of \(3, 4\)"),
        ({"a.bias": torch.ones(3, dtype=torch.int64)}, "a.bias: type torch.int64 instead of torch.float32"),
    ],
    ids=["missing", "unexpected", "renamed", "longer", "transposed", "integer"],
)
def test_assign_tensors_lists_what_does_not_fit(change: dict[str, object], message: str) -> None:
    tensors = {key: value for key, value in (TENSORS | change).items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        assign_tensors(network(), tensors)  # type: ignore[arg-type]
