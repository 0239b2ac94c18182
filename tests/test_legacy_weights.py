"""Weights of PyTorch's own format: read when pinned or converted by name, and never anything but tensors."""

import io
import json
import os
import pickle
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_checkpoints import SEQUENCES, sha256, write_tiny
from torch import Tensor, nn

import fastgenome as fg
from fastgenome.errors import ArgumentError, CheckpointError
from fastgenome.models import REGISTRY, RegisteredModel, convert
from fastgenome.models.checkpoint import WeightFiles, read_tensors
from fastgenome.models.legacy_weights import read_legacy

# Written before PyTorch 1.6, column-major, in two shards, and as most are.
PUBLISHED = {
    "dnabert_1": "pytorch_model.bin",
    "nt_v2_2": "pytorch_model.bin",
    "nt_v1_2": "pytorch_model.bin.index.json",
    "hyenadna_1": "pytorch_model.bin",
    "dnabert2_1": "pytorch_model.bin",
}
OLD_FORMAT = {"_use_new_zipfile_serialization": False}


def without_safetensors(fixture: Path, place: Path) -> Path:
    shutil.copytree(fixture, place, ignore=shutil.ignore_patterns("*.safetensors", "expected*"))
    place.chmod(0o755)
    return place


def pin(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    digests = {file.name: sha256(file) for file in files}
    entry = RegisteredModel("pinned", "tiny", "MIT", "a test", repository="a/b", digests=digests)
    monkeypatch.setitem(REGISTRY, entry.name, entry)


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and torch.equal(found[name], expected[name])
        for name in expected
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_read_tensors_of_pinned_pickles_equals_the_safetensors_beside_them(
    parity_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    directory = without_safetensors(parity_dir / name, tmp_path / name)
    assert (directory / PUBLISHED[name]).exists()
    with pytest.raises(CheckpointError, match=f"fastgenome convert {directory} -o OUT"):
        read_tensors(directory)
    pin(monkeypatch, *directory.glob("*.bin"))
    # Of tied tensors safetensors keep one name, pickles both.
    found, expected = read_tensors(directory), load_file(parity_dir / name / "model.safetensors")
    shared = {key: found[key] for key in expected}
    assert equal(shared, expected)
    rest = [found[key] for key in found.keys() - expected.keys()]
    assert all(any(torch.equal(one, other) for other in expected.values()) for one in rest)


def test_read_legacy_keeps_the_strides_of_the_file(parity_dir: Path) -> None:
    tensors = read_legacy(parity_dir / "nt_v2_2" / "pytorch_model.bin", pinned=None)
    assert any(not tensor.is_contiguous() for tensor in tensors.values())


@pytest.mark.parametrize("number", [1, 2])
def test_read_legacy_takes_the_state_dict_of_a_lightning_checkpoint_alone(
    parity_dir: Path, number: int
) -> None:
    path = parity_dir / f"hyenadna_old_{number}" / "weights.ckpt"
    whole = torch.load(path, weights_only=True, map_location="cpu")
    assert len(whole) > 1
    assert equal(read_legacy(path, pinned=None), dict(whole["state_dict"]))


def test_load_takes_a_pinned_pickle_and_computes_the_same(
    parity_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = without_safetensors(parity_dir / "dnabert2_1", tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"its sha256 .* is not that of a release known here"):
        fg.load(directory)
    weights = directory / "pytorch_model.bin"
    pin(monkeypatch, weights)
    model = fg.load(directory, device="cpu", dtype="float32")
    expected = fg.load(parity_dir / "dnabert2_1", device="cpu", dtype="float32")
    np.testing.assert_array_equal(model.embed(SEQUENCES), expected.embed(SEQUENCES))
    assert model.sha256 == sha256(weights)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"its sha256 .* is not that of a release known here"):
        fg.load(directory)


class Malice:
    """Writes a file when a full unpickler makes it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def malicious(marker: Path) -> dict[str, Any]:
    """Contents of a file, by where the malice sits in it."""
    tensors = {"a": torch.ones(3)}
    return {
        "alone": Malice(marker),
        "value": {**tensors, "b": Malice(marker)},
        "lightning": {"state_dict": tensors, "hyper_parameters": Malice(marker)},
        "name": {Malice(marker): torch.ones(3)},
    }


@pytest.mark.parametrize("form", ["archive", "old", "plain", "disguised"])
@pytest.mark.parametrize("place", malicious(Path()))
def test_code_in_a_pickle_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, form: str
) -> None:
    marker = tmp_path / "ran"
    content = malicious(marker)[place]
    directory = write_tiny(tmp_path / "model", legacy=True)
    weights = directory / "pytorch_model.bin"
    if form in ("archive", "old"):
        torch.save(content, weights, **({} if form == "archive" else OLD_FORMAT))
    else:
        # The last bytes of PyTorch's own beginning, then a pickle of another kind.
        start = b"" if form == "plain" else b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
        weights.write_bytes(start + pickle.dumps(content))
    with pytest.raises(CheckpointError, match="fastgenome convert"):
        fg.load(directory)
    with pytest.raises(CheckpointError, match=r"holds more than tensors|not a file that torch\.save|damaged"):
        convert(directory, tmp_path / "out")
    pin(monkeypatch, weights)
    with pytest.raises(CheckpointError, match=r"holds more than tensors|not a file that torch\.save|damaged"):
        fg.load(directory)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    assert sorted(os.listdir(tmp_path)) == ["model"]
    # The malice works where it is let.
    if place == "value":
        pickle.loads(pickle.dumps(content))
        assert marker.exists()


def test_a_tar_archive_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(CheckpointError, match=r"not a file that torch\.save wrote"):
        read_legacy(path, pinned=None)


def test_torchscript_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)
    with pytest.raises(CheckpointError, match="pytorch_model"):
        read_legacy(path, pinned=None)


@pytest.mark.parametrize("options", [{}, OLD_FORMAT], ids=["archive", "old"])
def test_read_legacy_refuses_every_truncated_file(tmp_path: Path, options: dict[str, bool]) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a.weight": torch.arange(300.0).reshape(20, 15), "a.bias": torch.ones(20)}, path, **options)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
            read_legacy(path, pinned=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds list"),
        ({}, "holds dict"),
        (torch.ones(2), "holds Tensor"),
        ({"a": 1}, "'a' is int, expected a tensor"),
        ({1: torch.ones(2)}, "1 is Tensor, expected"),
        ({"state_dict": {"a": "x"}}, "'a' is str, expected a tensor"),
        ({"a": torch.ones(1).expand(10**9)}, "'a' has more numbers than the file"),
        ({"a": torch.eye(3).to_sparse()}, "'a' is no plain tensor"),
        ({"a": torch.ones(10**6, device="meta")}, "'a' is no plain tensor"),
    ],
    ids=["list", "empty", "tensor", "number", "unnamed", "nested", "expanded", "sparse", "meta"],
)
def test_read_legacy_wants_tensors_under_names(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_legacy(path, pinned=None)


def replace_file(path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, path.with_name("other"))
    os.replace(path.with_name("other"), path)


def rewrite_file(path: Path) -> None:
    path.write_bytes(path.read_bytes())


@pytest.mark.parametrize("change", [replace_file, rewrite_file])
def test_read_legacy_refuses_a_file_that_changes_after_it_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save({"a": torch.zeros(1000)}, path)
    pinned, load = {sha256(path)}, torch.load
    given: list[Tensor] = []

    def changed(*arguments: Any, **options: Any) -> Any:
        change(path)
        content = load(*arguments, **options)
        given.append(content["a"].clone())
        return content

    monkeypatch.setattr(torch, "load", changed)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_legacy(path, pinned=pinned)
    # Another file that took the name was never read.
    assert not given[0].any()


@pytest.mark.parametrize("name", PUBLISHED)
def test_convert_writes_what_was_published(parity_dir: Path, tmp_path: Path, name: str) -> None:
    directory = without_safetensors(parity_dir / name, tmp_path / name)
    (directory / "modeling.py").write_text("raise SystemExit\n")
    (directory / "notes.json").write_text("{}")
    done = convert(directory, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    expected = load_file(parity_dir / name / "model.safetensors")
    assert equal({key: found[key] for key in expected}, expected)
    assert found.keys() == read_tensors(directory, trusted=True).keys()
    assert done.tensors == len(found)
    assert done.size_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert done.read == tuple(sorted(path.name for path in directory.glob("*.bin")))
    described = {"config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json",
                 "special_tokens_map.json"}  # fmt: skip
    wanted = {path.name for path in directory.iterdir()} & described
    assert {path.name for path in (tmp_path / "out").iterdir()} == wanted | {"model.safetensors"}
    for file in wanted:
        assert (tmp_path / "out" / file).read_bytes() == (directory / file).read_bytes()
    if not name.startswith("hyenadna"):
        assert done.family is not None
        ours, theirs = (fg.load(place, device="cpu", dtype="float32") for place in
                        (tmp_path / "out", parity_dir / name))  # fmt: skip
        np.testing.assert_array_equal(ours.embed(SEQUENCES), theirs.embed(SEQUENCES))


def test_convert_writes_tensors_that_share_memory_each_alone(tmp_path: Path) -> None:
    table = torch.arange(12.0).reshape(3, 4)
    tensors = OrderedDict(
        a=table, b=table, part=table[1:], turned=table.T, half=table.half(), count=torch.tensor(3),
        parameter=nn.Parameter(torch.ones(2)),
    )  # fmt: skip
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "unheard of"}')
    torch.save({"state_dict": tensors, "epoch": 3}, directory / "weights.ckpt")
    done = convert(directory, tmp_path / "out")
    assert (done.family, done.read) == (None, ("weights.ckpt",))
    expected = {name: tensor.detach() for name, tensor in tensors.items()}
    assert equal(load_file(tmp_path / "out" / "model.safetensors"), expected)
    assert (tmp_path / "out" / "config.json").read_text() == '{"model_type": "unheard of"}'


def damage_names(directory: Path) -> None:
    torch.save({"other": torch.ones(2)}, directory / "pytorch_model.bin")


def point_outside(directory: Path) -> None:
    (directory / "pytorch_model.bin").rename(directory.parent / "outside.bin")
    index = {"weight_map": {"a": "../outside.bin"}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def point_at_safetensors(directory: Path) -> None:
    point_outside(directory)
    index = {"weight_map": {"a": "x.safetensors"}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def link_outside(directory: Path) -> None:
    weights = directory / "pytorch_model.bin"
    weights.rename(directory.parent / "outside.bin")
    weights.symlink_to("../outside.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_names, "missing .*; unexpected other"),
        (point_outside, r"only plain names of \.bin files"),
        (point_at_safetensors, r"only plain names of \.bin files"),
        (link_outside, "nothing outside of a model's directory is opened"),
        (lambda directory: (directory / "pytorch_model.bin").unlink(), "holds no weights"),
        (lambda directory: (directory / "config.json").unlink(), r"config\.json"),
    ],
    ids=["names", "outside", "mixed", "link", "no-weights", "no-config"],
)
def test_convert_that_fails_leaves_nothing(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    directory = write_tiny(tmp_path / "model", legacy=True)
    damage(directory)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        convert(directory, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == before


def test_convert_replaces_no_folder_and_no_safetensors(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    with pytest.raises(ArgumentError, match="holds safetensors already"):
        convert(directory, tmp_path / "out")
    legacy = write_tiny(tmp_path / "legacy", legacy=True)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("x")
    with pytest.raises(ArgumentError, match="is not empty"):
        convert(legacy, taken)
    assert os.listdir(taken) == ["thesis.txt"]
    for model in (legacy, directory):
        before = sorted(os.listdir(model))
        with pytest.raises(ArgumentError, match="is not empty"):
            convert(legacy, model)
        assert sorted(os.listdir(model)) == before


def test_safetensors_win_over_pickles_which_are_not_opened(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    expected = read_tensors(directory)
    for name in ("pytorch_model.bin", "weights.ckpt", "pytorch_model.bin.index.json"):
        (directory / name).write_bytes(b"\xff")
    assert equal(read_tensors(directory), expected)
    assert WeightFiles(directory).sha256 == sha256(directory / "model.safetensors")
