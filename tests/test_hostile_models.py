"""Model directories made to do harm: nothing of them is imported or run, nothing outside opened, all refused.

All are loaded in one process of their own, which an audit hook watches from inside and inotify from outside.
"""

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import write_tiny

import fastgenome as fg
from fastgenome.errors import CheckpointError
from fastgenome.models.checkpoint import read_tensors

ROOT = Path(__file__).resolve().parent.parent
PARITY = Path(os.environ.get("FASTGENOME_PARITY", ROOT.parent / "shared" / "parity"))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Loads each directory named on standard input, converts it too where asked to, and tells what happened.
LOADER = """
import json, os, sys
import torch
import fastgenome
from fastgenome.errors import FastgenomeError
from fastgenome.models import convert

events = []
sys.addaudithook(lambda event, arguments: events.append((event, arguments)))
def told(action):
    del events[:]
    before = set(sys.modules)
    try:
        action()
        outcome = ["loaded", ""]
    except FastgenomeError as error:
        outcome = [type(error).__name__, str(error)]
    except BaseException as error:
        outcome = ["crash", repr(error)]
    seen = list(events)
    paths = [os.path.abspath(a[0]) for e, a in seen if e == "open" and isinstance(a[0], str)]
    started = [e for e, a in seen if e in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn",
                                           "socket.connect", "ctypes.dlopen")]
    modules = {name: getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}
    return {"outcome": outcome, "opened": paths, "started": started, "modules": modules}

fastgenome.load("tiny", device="cpu")
report = {}
for line in sys.stdin:
    name, directory, out = json.loads(line)
    report[name] = {"load": told(lambda: fastgenome.load(directory, device="cpu", dtype="float32"))}
    report[name]["convert"] = told(lambda: convert(directory, out))
print(json.dumps(report))
"""


class Malice:
    """Leaves a file when it is unpickled by anything that runs what a pickle says."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def edit_config(directory: Path, **fields: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def put_modules(directory: Path) -> None:
    """Python files under the names that a config or an import may ask for."""
    for name in ("modeling_x", "configuration_x", "modeling_esm", "esm_config", "__init__", "sitecustomize",
                 "safetensors", "torch"):  # fmt: skip
        (directory / f"{name}.py").write_text(f"open({str(directory.parent / 'code_ran')!r}, 'w').close()\n")


def put_code(directory: Path, outside: Path) -> None:
    put_modules(directory)
    edit_config(directory, auto_map={"AutoModel": "modeling_x.X", "AutoConfig": "configuration_x.X"})


def put_pickle(directory: Path, outside: Path) -> None:
    (directory / WEIGHTS).unlink()
    content = {"encoder.x": torch.ones(2), "y": Malice(directory.parent / "pickle_ran")}
    torch.save(content, directory / "pytorch_model.bin")


def put_pickle_for_safetensors(directory: Path, outside: Path) -> None:
    torch.save({"y": Malice(directory.parent / "disguised_ran")}, directory / WEIGHTS)


def put_lightning_pickle(directory: Path, outside: Path) -> None:
    (directory / WEIGHTS).unlink()
    tensors = {"encoder.x": torch.ones(2)}
    content = {"state_dict": tensors, "hyper_parameters": Malice(directory.parent / "lightning_ran")}
    torch.save(content, directory / "weights.ckpt")


def shard_named(name: str, suffix: str = ".safetensors") -> Callable[[Path, Path], None]:
    def put_index(directory: Path, outside: Path) -> None:
        weights = load_file(directory / WEIGHTS)
        (directory / WEIGHTS).unlink()
        file = name.replace("OUTSIDE", str(outside))
        (directory / "sub").mkdir()
        if suffix == ".bin":
            torch.save(weights, outside / "weights.bin")
            torch.save(weights, directory / "sub" / "weights.bin")
        else:
            save_file(weights, outside / "weights.safetensors")
            save_file(weights, directory / "sub" / "weights.safetensors")
        index = INDEX if suffix == ".safetensors" else "pytorch_model.bin.index.json"
        (directory / index).write_text(json.dumps({"weight_map": dict.fromkeys(weights, file)}))

    return put_index


def link(file: str, *, absolute: bool = True) -> Callable[[Path, Path], None]:
    def put_link(directory: Path, outside: Path) -> None:
        content = (directory / file).read_bytes() if (directory / file).exists() else b"{}"
        (outside / file).write_bytes(content)
        (directory / file).unlink(missing_ok=True)
        target = outside / file
        (directory / file).symlink_to(target if absolute else os.path.relpath(target, directory))

    return put_link


def pipe(file: str) -> Callable[[Path, Path], None]:
    def put_pipe(directory: Path, outside: Path) -> None:
        (directory / file).unlink()
        os.mkfifo(directory / file)

    return put_pipe


def header(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def put_header(directory: Path, outside: Path) -> None:
        content = (directory / WEIGHTS).read_bytes()
        (directory / WEIGHTS).write_bytes(change(content))

    return put_header


def described(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """The header of safetensors changed as JSON, its length with it."""

    def put_described(directory: Path, outside: Path) -> None:
        content = (directory / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        fields = json.loads(content[8 : 8 + size])
        change(fields)
        text = json.dumps(fields).encode()
        (directory / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return put_described


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path, Path], None]:
    def put_tensors(directory: Path, outside: Path) -> None:
        content = load_file(directory / WEIGHTS)
        change(content)
        save_file(content, directory / WEIGHTS)

    return put_tensors


def config(text: str) -> Callable[[Path, Path], None]:
    return lambda directory, outside: (directory / "config.json").write_text(text)  # type: ignore[return-value]


def transformer(**fields: int) -> Callable[[Path, Path], None]:
    def put_sizes(directory: Path, outside: Path) -> None:
        shape = json.loads((directory / "config.json").read_text())["transformer"]
        edit_config(directory, transformer=shape | fields)

    return put_sizes


def first(fields: dict[str, Any]) -> dict[str, Any]:
    """The description of one tensor."""
    found: dict[str, Any] = next(fields[name] for name in sorted(fields) if name != "__metadata__")
    return found


NAME = "encoder.stem.kmers.weight"
OUTSIDE = "nothing outside of a model's directory is opened"
UNREADABLE = "cannot be read as safetensors"

# What is done to a directory that loads, and what load says of it then.
HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "code": (put_code, "auto_map"),
    "pickle": (put_pickle, "fastgenome convert"),
    "lightning pickle": (put_lightning_pickle, "fastgenome convert"),
    "pickle for safetensors": (put_pickle_for_safetensors, UNREADABLE),
    "index to the parent": (shard_named("../outside/weights.safetensors"), "only plain names"),
    "index to an absolute path": (shard_named("OUTSIDE/weights.safetensors"), "only plain names"),
    "index to a subfolder": (shard_named("sub/weights.safetensors"), "only plain names"),
    "index to the parent's pickle": (shard_named("../outside/weights.bin", ".bin"), "only plain names"),
    "index to an absolute pickle": (shard_named("OUTSIDE/weights.bin", ".bin"), "only plain names"),
    "index to a pickle in a subfolder": (shard_named("sub/weights.bin", ".bin"), "only plain names"),
    "index to a missing shard": (shard_named("other.safetensors"), "other.safetensors"),
    "link for weights": (link(WEIGHTS), OUTSIDE),
    "relative link for weights": (link(WEIGHTS, absolute=False), OUTSIDE),
    "link for the config": (link("config.json"), OUTSIDE),
    "link for a vocabulary": (link("vocab.txt"), OUTSIDE),
    "link for an index": (link(INDEX), OUTSIDE),
    "link for a pickle": (link("pytorch_model.bin"), OUTSIDE),
    "pipe for weights": (pipe(WEIGHTS), "not a regular file"),
    "pipe for the config": (pipe("config.json"), "not a regular file"),
    "header of no length": (header(lambda c: struct.pack("<Q", 0) + c[8:]), UNREADABLE),
    "header of huge length": (header(lambda c: struct.pack("<Q", 2**63 - 1) + c[8:]), UNREADABLE),
    "header of negative length": (header(lambda c: struct.pack("<q", -1) + c[8:]), UNREADABLE),
    "header longer than the file": (header(lambda c: struct.pack("<Q", len(c)) + c[8:]), UNREADABLE),
    "header of no JSON": (header(lambda c: c[:8] + b"x" + c[9:]), UNREADABLE),
    "more bytes than described": (header(lambda c: c + b"\0"), UNREADABLE),
    "negative offset": (described(lambda f: first(f)["data_offsets"].__setitem__(0, -4)), UNREADABLE),
    "offset beyond": (described(lambda f: first(f)["data_offsets"].__setitem__(1, 2**40)), UNREADABLE),
    "two tensors of the same bytes": (described(lambda f: f.update(twin=first(f))), UNREADABLE),
    "huge shape": (described(lambda f: first(f).update(shape=[2**62, 2**62])), UNREADABLE),
    "negative shape": (described(lambda f: first(f).update(shape=[-1, 4])), UNREADABLE),
    "unknown type": (described(lambda f: first(f).update(dtype="OBJECT")), UNREADABLE),
    "missing tensor": (tensors(lambda t: t.pop(NAME)), f"missing {NAME}"),
    "unexpected tensor": (tensors(lambda t: t.update(extra=torch.ones(1))), "unexpected extra"),
    "renamed tensor": (tensors(lambda t: t.update(x=t.pop(NAME))), f"missing {NAME}; unexpected x"),
    "wrong shape": (tensors(lambda t: t.update({NAME: t[NAME].T.contiguous()})), f"{NAME}: shape"),
    "integers": (tensors(lambda t: t.update({NAME: t[NAME].int()})), f"{NAME}: type torch.int32"),
    "complex numbers": (tensors(lambda t: t.update({NAME: t[NAME].cfloat()})), f"{NAME}: type"),
    "no config": (lambda d, o: (d / "config.json").unlink(), "config.json"),
    "config of no object": (config("[]"), "must hold a JSON object"),
    "config without end": (config('{"a":' * 100_000), "cannot be read"),
    "config of a family unheard of": (config('{"model_type": "x"}'), "of no known family"),
    "config of a huge network": (transformer(dim=2**62), "describes no network that can be made"),
    "config of huger numbers": (transformer(dim=2**70), "describes no network that can be made"),
    "config of NUL bytes": (config("\0" * 100), "cannot be read"),
}  # fmt: skip


def leave(directory: Path, outside: Path) -> None:
    """Nothing is done."""


def put_code_that_nobody_names(directory: Path, outside: Path) -> None:
    (directory / "modeling.py").write_text("raise SystemExit\n")


def link_inside(directory: Path, outside: Path) -> None:
    (directory / WEIGHTS).rename(directory / "x.safetensors")
    (directory / WEIGHTS).symlink_to("x.safetensors")


def repeat_key(directory: Path, outside: Path) -> None:
    path = directory / "config.json"
    path.write_text(path.read_text().replace("{", '{"max_length": 400, ', 1))


def stored_as(dtype: torch.dtype) -> Callable[[Path, Path], None]:
    return tensors(lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))


# What is all right: types that are floating, too, links to files beside them, a field that stands twice.
HARMLESS: dict[str, Callable[[Path, Path], None]] = {
    "untouched": leave,
    "code that nobody names": put_code_that_nobody_names,
    "float64": stored_as(torch.float64),
    "float16": stored_as(torch.float16),
    "bfloat16": stored_as(torch.bfloat16),
    "repeated key": repeat_key,
    "link inside": link_inside,
}


class Opened:
    """The files of a folder that any process opens, by inotify, which no library can pass by."""

    OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        if self._descriptor < 0 or (
            self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), self.OPEN) < 0
        ):
            pytest.skip("inotify is not to be had here")

    def names(self) -> set[str]:
        """What was opened since the last call."""
        try:
            events = os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return set()
        names, place = set(), 0
        while place < len(events):
            size = struct.unpack_from("=I", events, place + 12)[0]
            names.add(events[place + 16 : place + 16 + size].rstrip(b"\0").decode())
            place += 16 + size
        return names

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened when every directory was loaded and converted, with the names of the cases."""
    base = tmp_path_factory.mktemp("hostile")
    outside = base / "outside"
    outside.mkdir()
    lines = []
    for number, (name, harm) in enumerate({**{n: h for n, (h, _) in HOSTILE.items()}, **HARMLESS}.items()):
        directory = write_tiny(base / f"model_{number}")
        harm(directory, outside)
        lines.append(json.dumps([name, str(directory), str(base / f"converted_{number}")]))
    if (PARITY / "nt_v2_2").is_dir():
        published = base / "published"
        shutil.copytree(PARITY / "nt_v2_2", published, ignore=shutil.ignore_patterns("expected*"))
        put_modules(published)
        torch.save({"y": Malice(base / "beside_ran")}, published / "pytorch_model.bin")
        lines.append(json.dumps(["published", str(published), str(base / "converted")]))
    watch = Opened(outside)
    (outside / "weights.bin").open().close()
    assert watch.names() == {"weights.bin"}
    done = subprocess.run(
        [sys.executable, "-c", LOADER], input="\n".join(lines), capture_output=True, text=True, cwd=ROOT,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    content["opened outside"] = watch.names()
    content["markers"] = sorted(path.name for path in base.glob("*_ran"))
    content["base"] = str(base)
    watch.close()
    return content


@pytest.mark.parametrize("name", HOSTILE)
def test_load_refuses_and_says_why(report: dict[str, Any], name: str) -> None:
    kind, message = report[name]["load"]["outcome"]
    assert (kind, HOSTILE[name][1] in message) == ("CheckpointError", True), message


@pytest.mark.parametrize("name", HARMLESS)
def test_load_takes_what_is_all_right(report: dict[str, Any], name: str) -> None:
    assert report[name]["load"]["outcome"] == ["loaded", ""]


def test_load_takes_a_published_directory_without_the_code_that_its_config_names(
    report: dict[str, Any], parity_dir: Path
) -> None:
    published = report["published"]["load"]
    assert published["outcome"] == ["loaded", ""]
    opened = {os.path.basename(path) for path in published["opened"] if path.startswith(report["base"])}
    assert opened <= {"config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", WEIGHTS}


@pytest.mark.parametrize("name", ["pickle", "lightning pickle"])
def test_convert_refuses_code(report: dict[str, Any], name: str) -> None:
    kind, message = report[name]["convert"]["outcome"]
    assert kind == "CheckpointError"
    assert "holds more than tensors" in message


def test_nothing_of_a_directory_is_run_or_imported(report: dict[str, Any]) -> None:
    assert report["markers"] == []
    for name in (*HOSTILE, *HARMLESS):
        for action in report[name].values():
            assert action["started"] == [], name
            files = [file for file in action["modules"].values() if file]
            assert not [file for file in files if file.startswith(report["base"])], name
            assert action["outcome"][0] != "crash", (name, action["outcome"])


def test_nothing_outside_of_a_directory_is_opened(report: dict[str, Any]) -> None:
    assert report["opened outside"] == set()
    for number, name in enumerate((*HOSTILE, *HARMLESS)):
        directory = f"{report['base']}/model_{number}"
        opened = {path for path in report[name]["load"]["opened"] if path.startswith(report["base"])}
        assert {os.path.dirname(path) for path in opened} <= {directory}, name
        assert not [path for path in opened if path.endswith(".py")], name
    # Python's own opens were seen at all.
    assert any("config.json" in path for path in report["untouched"]["load"]["opened"])


@pytest.mark.parametrize("shards", [1, 2])
def test_read_tensors_refuses_every_truncated_file(tmp_path: Path, shards: int) -> None:
    directory = write_tiny(tmp_path / "model")
    files = [directory / WEIGHTS]
    if shards == 2:
        content = load_file(files[0])
        files[0].unlink()
        halves = [dict(list(content.items())[part::2]) for part in range(2)]
        files = [directory / f"part-{part}.safetensors" for part in range(2)]
        for file, half in zip(files, halves, strict=True):
            save_file(half, file)
        places = {key: file.name for file, half in zip(files, halves, strict=True) for key in half}
        (directory / INDEX).write_text(json.dumps({"weight_map": places}))
        fg.load(directory)
    for file in files:
        whole = file.read_bytes()
        for size in range(0, len(whole), 97):
            file.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=UNREADABLE):
                read_tensors(directory)
        file.write_bytes(whole)
    fg.load(directory)
