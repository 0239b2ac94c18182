"""Model directories: read back exactly as saved, and nothing damaged, foreign or misplaced is accepted."""

import builtins
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import (
    WeightFiles,
    assign_tensors,
    check_links,
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


def test_save_checkpoint_that_fails_leaves_nothing_that_looks_complete(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(saved, {"family": "y"}, TENSORS)
    assert os.listdir(saved) == ["config.json"]


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
