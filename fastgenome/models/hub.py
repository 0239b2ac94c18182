"""Files of models in the Hugging Face hub: those that are read alone, through its cache."""

import re
from dataclasses import dataclass
from pathlib import Path

from fastgenome.errors import CheckpointError, ModelError
from fastgenome.models.checkpoint import CONFIG, VOCABULARY, weight_files
from fastgenome.models.registry import RegisteredModel, registered

# Everything that a family may read beside the weights; never any code.
_DESCRIPTIONS = (CONFIG, *VOCABULARY)
_SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")
_LEGACY = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "weights.ckpt")

_WORD = r"[A-Za-z0-9_][\w.-]*"
_HUB_ID = re.compile(rf"({_WORD}/{_WORD})(?:@({_WORD}(?:/{_WORD})*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub, with what is known of it: its revision, and its entry in the registry."""

    repository: str
    revision: str | None = None
    entry: RegisteredModel | None = None

    @property
    def name(self) -> str:
        """Under which the same files load again."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def patterns(self, *, legacy: bool) -> list[str]:
        """Names of the files to fetch; with `legacy` pickles among them whose digest is not known."""
        if self.entry and self.entry.weights:
            return [*_DESCRIPTIONS, *self.entry.digests]
        return [*_DESCRIPTIONS, *_SAFETENSORS, *(_LEGACY if legacy else ())]


def hub_model(name: str) -> HubModel | None:
    """The model that "owner/name" or "owner/name@revision" means; None for a name of another form."""
    match = _HUB_ID.fullmatch(name)
    if match is None:
        return None
    repository, revision = match.groups()
    entry = registered(repository, revision)
    return HubModel(repository, revision or (entry.revision if entry else None), entry)


def cached(model: HubModel, *, legacy: bool = False) -> Path | None:
    """The folder of the model in the hub's cache on this machine; None where a file is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        directory = snapshot_download(
            model.repository,
            revision=model.revision,
            allow_patterns=model.patterns(legacy=legacy),
            ignore_patterns="*/*",
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(directory) if _is_complete(Path(directory), model) else None


def fetch(model: HubModel, *, legacy: bool = False) -> tuple[Path, bool]:
    """The folder of the model in the hub's cache, and whether files were asked for over the network.

    The network is not asked for a commit that is cached, and where it is out of reach the cache answers for
    a branch. With `legacy`, pickles of unknown digest are fetched, too. Raises ModelError that says what to
    do where the model is neither cached nor reachable, or has no weights that may be loaded.
    """
    pinned = model.revision is not None and _COMMIT.fullmatch(model.revision)
    if pinned and (directory := cached(model, legacy=legacy)):
        return directory, False
    from huggingface_hub import HfApi, snapshot_download

    try:
        if pinned:
            # Fails at once where the hub is out of reach; the listing that a commit begins with is asked for
            # again and again. (A branch begins with this question anyway.)
            HfApi().repo_info(model.repository, revision=model.revision)
        directory = Path(
            snapshot_download(
                model.repository,
                revision=model.revision,
                allow_patterns=model.patterns(legacy=legacy),
                ignore_patterns="*/*",
            )
        )
    # The library raises errors of its own, of the system and of whichever HTTP client it uses.
    except Exception as error:
        raise ModelError(
            f"{model.name!r} is neither in the Hugging Face hub's cache on this machine nor to be had from "
            f"the hub ({type(error).__name__}: {str(error).strip().splitlines()[0]}). Check the name and the "
            "network, or fetch its files elsewhere and load their directory"
        ) from error
    if not _is_complete(directory, model):
        raise ModelError(
            f"{model.name!r} has no weights in safetensors, and a pickle is only loaded where its sha256 is "
            f"known here. If you trust where it comes from, convert it once, with "
            f"`fastgenome convert {model.name} -o OUT`, and load OUT"
        )
    return directory, True


def _is_complete(directory: Path, model: HubModel) -> bool:
    """Whether config.json, the weights and the pinned files are there."""
    try:
        needed = {CONFIG, *weight_files(directory), *(model.entry.digests if model.entry else ())}
    except CheckpointError:
        return False
    return all((directory / file).is_file() for file in needed)
