"""Where models come from: registered names, directories, and the hub with its cache."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_checkpoints import SEQUENCES, Hub, files_below, running, sha256, write_tiny

import fastgenome as fg
from fastgenome.errors import CheckpointError, ModelError
from fastgenome.models import REGISTRY, LicenceWarning, RegisteredModel, checkpoint, convert, licences
from fastgenome.models.hub import hub_model
from fastgenome.models.registry import registered
from fastgenome.models.sources import find_model, installed

ROOT = Path(__file__).resolve().parent.parent
NAME = "somebody/dna-model"


NOWHERE = "http://127.0.0.1:9"


def point_at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that runs, and a cache of its files in tmp_path / "cache"."""
    from huggingface_hub import constants

    hub = Hub()
    with running(hub) as address:
        point_at(monkeypatch, address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def embedding(name: str | Path) -> np.ndarray:
    return fg.load(name, device="cpu", dtype="float32").embed(SEQUENCES)


def register(monkeypatch: pytest.MonkeyPatch, directory: Path, revision: str, *files: str) -> RegisteredModel:
    """An entry "registered" for the repository NAME with the digests of these files."""
    digests = {file: sha256(directory / file) for file in files}
    entry = RegisteredModel(
        "registered", "tiny", "MIT", "a test", repository=NAME, revision=revision, digests=digests
    )
    monkeypatch.setitem(REGISTRY, entry.name, entry)
    return entry


def test_load_fetches_what_it_reads_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    published = write_tiny(tmp_path / "published")
    (published / "vocab.txt").write_text("[PAD]\n")
    (published / "spiece.model").write_text("pieces")
    for unwanted in ("modeling.py", "pytorch_model.bin", "weights.ckpt", "tf_model.h5", "sub/config.json",
                     "sub/model.safetensors"):  # fmt: skip
        (published / unwanted).parent.mkdir(exist_ok=True)
        (published / unwanted).write_bytes(b"raise SystemExit")
    commit = hub.add(NAME, published)
    model = fg.load(NAME, device="cpu", dtype="float32")
    np.testing.assert_array_equal(model.embed(SEQUENCES), embedding(published))
    assert sorted(hub.fetched) == ["config.json", "model.safetensors", "spiece.model", "vocab.txt"]
    assert not {"modeling.py", "pytorch_model.bin"} & files_below(tmp_path / "cache")
    # The commit, so that the name means the same files tomorrow.
    assert model.name == f"{NAME}@{commit}"


def test_load_of_a_commit_that_is_cached_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add(NAME, write_tiny(tmp_path / "published"))
    first = embedding(f"{NAME}@{commit}")
    assert hub.requests
    hub.requests.clear()
    np.testing.assert_array_equal(embedding(f"{NAME}@{commit}"), first)
    assert hub.requests == []


def test_load_of_a_branch_follows_it_and_falls_back_on_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, write_tiny(tmp_path / "one", seed=1))
    hub.add(NAME, write_tiny(tmp_path / "two", seed=2), branch="longer")
    one, two = embedding(NAME), embedding(f"{NAME}@longer")
    np.testing.assert_array_equal(one, embedding(tmp_path / "one"))
    np.testing.assert_array_equal(two, embedding(tmp_path / "two"))
    hub.repositories.clear()
    hub.add(NAME, write_tiny(tmp_path / "three", seed=3), branch="later")
    hub.repositories[NAME, "main"] = tmp_path / "three"
    np.testing.assert_array_equal(embedding(NAME), embedding(tmp_path / "three"))
    point_at(monkeypatch, NOWHERE)
    np.testing.assert_array_equal(embedding(NAME), embedding(tmp_path / "three"))
    np.testing.assert_array_equal(embedding(f"{NAME}@longer"), two)


@pytest.mark.parametrize("name", [NAME, f"{NAME}@longer", f"{NAME}@{'0' * 40}", "registered"])
@pytest.mark.parametrize("why", ["unreachable", "offline", "unknown"])
def test_load_says_what_to_do_where_the_hub_has_or_gives_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    from huggingface_hub import constants

    register(monkeypatch, write_tiny(tmp_path / "published"), "0" * 40, "config.json", "model.safetensors")
    if why == "unreachable":
        point_at(monkeypatch, NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", why == "offline")
    with pytest.raises(ModelError, match=r"neither in .* cache .* nor to be had .*Check the name"):
        fg.load(name)
    assert bool(hub.requests) == (why == "unknown")


@pytest.mark.parametrize(
    "name",
    ["unknown", "a/b/c", "owner/../name", "../name", "/owner/name", "owner/name@../../x", "owner/name@",
     "a b/c", "owner/.git", "owner/name@-x", "https://example.org/name", ""],
    ids=repr,
)  # fmt: skip
def test_load_asks_the_hub_for_no_name_of_another_form(
    hub: Hub, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name:
        with pytest.raises(ModelError, match=r"neither a registered name .*tiny.* nor a directory"):
            fg.load(name)
    else:
        with pytest.raises(CheckpointError, match=r"config\.json"):
            fg.load(name)
    assert hub_model(name) is None
    assert hub.requests == []


def test_a_registered_name_wins_over_a_directory_and_that_over_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", NAME):
        write_tiny(tmp_path / name, seed=5)
    assert fg.load("tiny").embedding_dim == 768
    assert fg.load("./tiny").embedding_dim == 32
    model = fg.load(NAME)
    assert model.name == str(tmp_path / NAME)
    assert hub.requests == []


def test_a_repository_at_its_pinned_revision_is_its_entry(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = write_tiny(tmp_path / "published", legacy=True)
    commit = hub.add(NAME, published)
    entry = register(monkeypatch, published, commit, "config.json", "pytorch_model.bin")
    assert installed(entry) is None
    for name in ("registered", NAME, f"{NAME}@{commit}"):
        model = fg.load(name)
        assert (model.name, model.licence) == ("registered", "MIT")
        place = installed(entry)
        assert place is not None
        assert place.size_bytes == (published / "pytorch_model.bin").stat().st_size
    assert sorted(hub.fetched) == ["config.json", "pytorch_model.bin"]


def test_pickles_of_unknown_digest_are_not_fetched_but_by_convert(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = write_tiny(tmp_path / "published", legacy=True)
    commit = hub.add(NAME, published)
    for name in (NAME, f"{NAME}@{commit}"):
        with pytest.raises(ModelError, match=rf"fastgenome convert {name} -o OUT"):
            fg.load(name)
    assert hub.fetched == ["config.json"]
    converted = convert(f"{NAME}@{commit}", tmp_path / "converted")
    assert converted.family == "tiny"
    assert sorted(hub.fetched) == ["config.json", "pytorch_model.bin"]
    with pytest.raises(CheckpointError, match="fastgenome convert"):
        fg.load(f"{NAME}@{commit}")
    write_tiny(tmp_path / "same")
    np.testing.assert_array_equal(embedding(converted.directory), embedding(tmp_path / "same"))


def test_convert_of_a_registered_name_checks_its_pickle(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = write_tiny(tmp_path / "published", legacy=True)
    commit = hub.add(NAME, published)
    register(monkeypatch, published, commit, "config.json", "pytorch_model.bin")
    whole = (published / "pytorch_model.bin").read_bytes()
    (published / "pytorch_model.bin").write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="is not that of a release known here"):
        convert("registered", tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_what_arrives_with_another_digest_does_not_stay_in_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr(checkpoint, "_SMALL", 0)
    published = write_tiny(tmp_path / "published")
    commit = hub.add(NAME, published)
    register(monkeypatch, published, commit, "config.json", "model.safetensors")
    whole = (published / damaged).read_bytes()
    (published / damaged).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{damaged} has sha256 .* damaged or of another release"):
        fg.load("registered")
    (published / damaged).write_bytes(whole)
    np.testing.assert_array_equal(embedding("registered"), embedding(published))


def test_pinned_files_are_checked_again_where_they_are_small_or_asked_for(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = write_tiny(tmp_path / "published")
    entry = register(monkeypatch, published, hub.add(NAME, published), "config.json", "model.safetensors")
    fg.load("registered")
    place = installed(entry)
    assert place is not None
    weights = place.directory / "model.safetensors"
    content = weights.read_bytes()
    weights.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged or of another release"):
        fg.load("registered")
    monkeypatch.setattr(checkpoint, "_SMALL", 0)
    fg.load("registered")
    with pytest.raises(CheckpointError, match="damaged or of another release"):
        find_model("registered", large=True)


def test_a_licence_that_excludes_commerce_is_shown_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(licences, "_shown", set())
    published = write_tiny(tmp_path / "published")
    fg.load(published)
    assert not recwarn
    for name, licence in (("one", "CC-BY-NC-SA-4.0"), ("two", "for non-commercial use"), ("three", "MIT")):
        entry = RegisteredModel(name, "tiny", licence, "a test", directory=published)
        monkeypatch.setitem(REGISTRY, name, entry)
        assert fg.load(name).licence == licence
        fg.load(name)
    shown = [str(warning.message) for warning in recwarn if warning.category is LicenceWarning]
    assert len(shown) == len(recwarn) == 2
    assert "'one'" in shown[0]
    assert "CC-BY-NC-SA-4.0: not for commercial use" in shown[0]
    assert recwarn[0].filename == __file__


def test_huggingface_hub_is_imported_only_for_the_hub() -> None:
    code = (
        "import sys, fastgenome; fastgenome.load('tiny'); "
        "print([name for name in sys.modules if name.startswith('huggingface_hub')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_registry_holds_the_published_facts(parity_dir: Path) -> None:
    facts = json.loads((parity_dir / "oracle_vectors.json").read_text())
    assert facts
    for fact in facts.values():
        entry = registered(fact["repo"], fact["revision"])
        assert entry is not None, fact["repo"]
        assert entry.revision == fact["revision"]
        if "sha256" in fact:
            assert entry.digests.items() <= fact["sha256"].items()
            assert entry.weights
            weights = fact["checkpoint_sha256"] or fact["sha256"]["model.safetensors"]
            assert list(entry.weights.values()) == ([weights] if isinstance(weights, str) else weights)


def test_registry_invents_nothing() -> None:
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert (entry.directory is None) != (entry.repository is None)
        assert "/" not in name
        assert all(len(digest) == 64 and int(digest, 16) for digest in entry.digests.values())
        # Digests are of a commit, not of a branch that moves.
        assert not entry.digests or entry.directory or len(entry.revision or "") == 40
        if entry.repository:
            assert hub_model(entry.repository) is not None
