"""Where the files of a model are: in a directory, in the package, or in the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastgenome.errors import CheckpointError, ModelError
from fastgenome.models.checkpoint import check_digests, check_links, weight_files
from fastgenome.models.hub import HubModel, cached, fetch, hub_model
from fastgenome.models.registry import REGISTRY, RegisteredModel


@dataclass(frozen=True)
class ModelSource:
    """The directory of a model's files, the name under which they load again, and their entry if any."""

    name: str
    directory: Path
    entry: RegisteredModel | None = None


def find_model(name: str | Path, *, legacy: bool = False, large: bool = False) -> ModelSource:
    """The files of a registered name, a directory, or "owner/name" or "owner/name@revision" of the hub.

    They are looked for in this order. With `legacy`, pickles of unknown digest are fetched from the hub, too;
    nothing is read of them. Pinned digests are checked, those of large files only when they have just arrived
    or if `large`. Raises ModelError for a name that is none of them, or that cannot be had, and
    CheckpointError for files that are links out of the directory or differ from their pinned digests.
    """
    entry = REGISTRY.get(name) if isinstance(name, str) else None
    if entry and entry.directory:
        source, fetched = ModelSource(entry.name, entry.directory, entry), False
    elif entry and entry.repository:
        source, fetched = _from_hub(HubModel(entry.repository, entry.revision, entry), legacy)
    elif Path(name).is_dir():
        # A relative directory would be another one wherever the name is used again.
        source, fetched = ModelSource(str(Path(name).resolve()), Path(name)), False
    elif isinstance(name, str) and (hub := hub_model(name)):
        source, fetched = _from_hub(hub, legacy)
    else:
        raise ModelError(
            f"no model {str(name)!r}: neither a registered name ({', '.join(sorted(REGISTRY))}) nor a "
            'directory, nor of the form "owner/name" or "owner/name@revision" of the Hugging Face hub'
        )
    check_links(source.directory)
    if source.entry:
        _check(source.directory, source.entry, fetched, large)
    return source


def _from_hub(model: HubModel, legacy: bool) -> tuple[ModelSource, bool]:
    directory, fetched = fetch(model, legacy=legacy)
    if model.entry:
        return ModelSource(model.entry.name, directory, model.entry), fetched
    # The folder is named after the commit; a branch may stand for another one tomorrow.
    return ModelSource(f"{model.repository}@{directory.name}", directory), fetched


def _check(directory: Path, entry: RegisteredModel, fetched: bool, large: bool) -> None:
    try:
        check_digests(directory, entry.digests, large=fetched or large)
    except CheckpointError:
        if fetched:
            # What stayed in the cache would be taken for checked the next time.
            for file in entry.digests:
                (directory / file).resolve().unlink(missing_ok=True)
                (directory / file).unlink(missing_ok=True)
        raise


class Installed(NamedTuple):
    """A registered model on this machine: its directory, and the bytes of its weights on disk."""

    directory: Path
    size_bytes: int


def installed(entry: RegisteredModel) -> Installed | None:
    """Where a registered model is on this machine; None where it would have to be fetched."""
    if entry.repository:
        directory = cached(HubModel(entry.repository, entry.revision, entry))
    else:
        directory = entry.directory
    if directory is None:
        return None
    return Installed(directory, sum((directory / file).stat().st_size for file in weight_files(directory)))
