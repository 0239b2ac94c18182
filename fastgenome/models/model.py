"""A loaded model: tokenizer, network and head, from sequences to embeddings."""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from fastgenome.adapters.linear import AttachedAdapters
from fastgenome.batching import take_sequences, token_budget_batches
from fastgenome.errors import ArgumentError, ModelError
from fastgenome.memory import freed_memory_kept
from fastgenome.models.checkpoint import WeightFiles, save_checkpoint
from fastgenome.models.embeddings import (
    EmbeddingDefaults,
    PoolingPlan,
    TokenEmbeddings,
    averaged,
    output_type,
    store,
)
from fastgenome.models.encoder import Encoder, HiddenStates
from fastgenome.models.inputs import (
    check_lengths,
    check_limit,
    check_packing,
    check_special_tokens,
    tokens_of,
)
from fastgenome.models.key_map import KeyMap, published_tensors
from fastgenome.pooling import parse_pooling, pool
from fastgenome.progress import progress_bar
from fastgenome.tokenizers import Tokenizer, Tokens

if TYPE_CHECKING:
    from fastgenome.adapters.branch import AdapterConfig

# Rows per batch at which two cores embed fastest: large enough for the products, small enough for the cache.
BATCH_TOKENS = 4096

# Fields of config.json that do not change what the network computes.
_FREE_FIELDS = ("training", "licence", "default_pooling", "default_layers")


class Network(nn.Module):
    """The trained parts of a model."""

    def __init__(
        self, encoder: nn.Module, head: nn.Module | None = None, pooler: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooler = pooler


class Model:
    """A model ready to embed; made by `fastgenome.load` or by a family's `create`.

    `dim` is the width of the last layer's hidden states, `embedding_dim` that of an embedding with the
    defaults. `licence` is that of the weights. `min_length` is in bases; `max_length` in tokens, special ones
    included, None without limit. `config` is config.json. `network` holds what can be trained, `key_map` the
    published names of its tensors (None where they are its own), `files` where they came from (of a new model
    `vocabulary_source`, that of its vocabulary), `options` the further arguments that it was loaded with and
    `adapters` what is attached to it.
    """

    def __init__(
        self,
        *,
        name: str,
        network: Network,
        tokenizer: Tokenizer,
        licence: str,
        config: dict[str, Any],
        defaults: EmbeddingDefaults | None = None,
        min_length: int = 1,
        max_length: int | None = None,
        key_map: KeyMap | None = None,
        files: WeightFiles | None = None,
    ) -> None:
        self.name = name
        self.network = network
        self.tokenizer = tokenizer
        self.licence = licence
        self.config = config
        self.defaults = defaults or EmbeddingDefaults()
        self.min_length = min_length
        self.max_length = max_length
        self.key_map = key_map
        self.files = files
        self.options: dict[str, str] = {}
        self.vocabulary_source: Path | None = None
        self.adapters = AttachedAdapters()
        if self.encoder.stride > 1 and tokenizer.prefix_length + tokenizer.suffix_length:
            raise ArgumentError("a network that joins ids into rows needs a tokenizer without special tokens")
        parse_pooling(self.defaults.pooling)
        self.embedding_width()

    @property
    def sha256(self) -> str | None:
        """Digest of the weights' files, read when first asked for; None for weights not loaded from files."""
        return self.files.sha256 if self.files else None

    @property
    def encoder(self) -> Encoder:
        """The network from packed ids to hidden states."""
        return cast(Encoder, self.network.encoder)

    @property
    def head(self) -> nn.Module:
        """The network from hidden states to logits; ModelError where the checkpoint has none."""
        if self.network.head is None:
            raise ModelError(f"model {self.name!r} has no language-model head")
        return self.network.head

    @property
    def dim(self) -> int:
        """Width of the last layer's hidden states."""
        return self.encoder.widths[-1]

    @property
    def embedding_dim(self) -> int:
        """Width of an embedding with the default pooling and layers."""
        return self.embedding_width()

    def embedding_width(
        self,
        *,
        pooling: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
        average_layers: bool | None = None,
    ) -> int:
        """Width of the embeddings that `embed` gives with the same arguments."""
        poolings = parse_pooling(self.defaults.pooling if pooling is None else pooling)
        widths = [self.encoder.widths[index] for index in self.layer_indices(layer)]
        if self._averages(average_layers):
            if len(set(widths)) > 1:
                raise ArgumentError(f"layers of different widths cannot be averaged: {widths}")
            widths = widths[:1]
        return len(poolings) * sum(widths)

    @property
    def _last(self) -> int:
        return len(self.encoder.widths) - 1

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the matrix products; hidden states are float32."""
        products = (part.weight.dtype for part in self.network.modules() if isinstance(part, nn.Linear))
        return next(products, torch.float32)

    def embed(
        self,
        sequences: Sequence[str] | str | Path | Tokens,
        *,
        pooling: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
        average_layers: bool | None = None,
        special_tokens: bool | None = None,
        output_dtype: DTypeLike = np.float32,
        adapter: Sequence[str | None] | None = None,
        batch_tokens: int = BATCH_TOKENS,
        progress: bool = False,
    ) -> NDArray[Any]:
        """Embeddings (n, dim) of sequences, of the records of a file or of Tokens, in their order.

        `pooling`: "mean", "max", "cls", "last", "pooler" (the checkpoint's own), "attention" (the mean
        weighted by the attention that tokens receive in the layer) or several joined by "+"; `layer`: 0 for
        the embedding output to -1 for the last, or several. Several are joined side by side, poolings within
        layers, or with `average_layers` averaged. `special_tokens` pools over them too. None is the model's
        default. `output_dtype` is float32 or float16. `adapter` names one of the attached for each sequence,
        None for none; by default the active one acts. A batch has at most `batch_tokens` rows. Raises
        InputError for a sequence without a token, SequenceTooLongError for one beyond `max_length`.
        """
        tokens = tokens_of(self, sequences)
        how = self._pooling_plan(pooling, special_tokens)
        layers, average = self.layer_indices(layer), self._averages(average_layers)
        if "pooler" in how.names and {i % len(self.encoder.widths) for i in layers} != {self._last}:
            raise ArgumentError(f"pooling='pooler' is for the last layer alone, got layer={layers}")
        if not how.special_tokens:
            check_special_tokens(self, tokens)
        width = self.embedding_width(pooling=pooling, layer=layer, average_layers=average)
        embeddings = np.empty((len(tokens.lengths), width), dtype=output_type(output_dtype))
        batches = self._batches(tokens, layers, average, batch_tokens, progress, how.attends, adapter)
        # Closed at once where storing fails: the caller's thread must not stay without gradients.
        with closing(batches):
            for batch, hidden in batches:
                store(embeddings, batch, self._pool(hidden, how).cpu().numpy())
        return embeddings

    def embed_ranges(
        self,
        tokens: Tokens,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        *,
        pooling: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
        projection: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings (ranges, dim) of ranges [start, end) of the rows of one batch, from one pass over it.

        The rows of all sequences follow each other, special tokens included (see `hidden_states`); ranges may
        overlap. Only "mean" and "max" pool ranges. `projection` (dim, outputs) is applied to each row before
        a "mean", which gives the projected embeddings, (ranges, outputs), at a cost that hardly grows with
        the ranges. Raises ArgumentError for another pooling, and as `embed`.
        """
        how, layers = self._pooling_plan(pooling, None), self.layer_indices(layer)
        if not set(how.names) <= {"mean", "max"} or (projection is not None and how.names != ("mean",)):
            raise ArgumentError(f"pooling={'+'.join(how.names)!r} cannot pool ranges of a longer sequence")
        check_lengths(self, tokens.lengths)
        first, last = torch.from_numpy(starts), torch.from_numpy(ends)
        with _predicting(self.network):
            hidden = self._run(tokens.ids, tokens.offsets, layers)
            states = averaged(hidden).states if self.defaults.average_layers else hidden.states
            if projection is not None:
                of_layers = torch.split(
                    torch.from_numpy(projection).to(self.device), [part.shape[1] for part in states]
                )
                projected = [part @ rows for part, rows in zip(states, of_layers, strict=True)]
                states = (torch.stack(projected).sum(0),)
            pooled = torch.cat([pool(part, first, last, how.names) for part in states], 1)
            return cast(NDArray[np.float32], pooled.cpu().numpy())

    def pooled(
        self,
        tokens: Tokens,
        *,
        pooling: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Embeddings (n, dim) float32 of Tokens in one pass and with gradients: what `embed` gives, to train.

        The network's mode is left as it is. Raises as `embed`.
        """
        how, layers = self._pooling_plan(pooling, None), self.layer_indices(layer)
        check_lengths(self, tokens.lengths)
        hidden = self._run(tokens.ids, tokens.offsets, layers, attention=how.attends)
        return self._pool(averaged(hidden) if self.defaults.average_layers else hidden, how)

    def token_embeddings(
        self,
        sequences: Sequence[str] | str | Path | Tokens,
        *,
        layer: int | Sequence[int] | None = None,
        average_layers: bool | None = None,
        special_tokens: bool | None = None,
        output_dtype: DTypeLike = np.float32,
        batch_tokens: int = BATCH_TOKENS,
        progress: bool = False,
    ) -> TokenEmbeddings:
        """One embedding for each token, or each group of tokens that the network joins; see `embed`."""
        tokens = tokens_of(self, sequences)
        special = self._pooling_plan(None, special_tokens).special_tokens
        if not special:
            check_special_tokens(self, tokens)
        before, behind = (0, 0) if special else (self.tokenizer.prefix_length, self.tokenizer.suffix_length)
        layers, average = self.layer_indices(layer), self._averages(average_layers)
        counts = -(-tokens.lengths // self.encoder.stride) - before - behind
        offsets = np.concatenate([[0], np.cumsum(counts)])
        width = self.embedding_width(pooling="mean", layer=layer, average_layers=average)
        values = np.empty((offsets[-1], width), dtype=output_type(output_dtype))
        with closing(self._batches(tokens, layers, average, batch_tokens, progress, False)) as batches:
            for batch, hidden in batches:
                states = torch.cat(hidden.states, 1).cpu().numpy()
                starts = hidden.offsets[:-1].numpy() + before
                for index, start in zip(batch, starts, strict=True):
                    rows = slice(int(offsets[index]), int(offsets[index + 1]))
                    store(values, rows, states[start : start + counts[index]])
        return TokenEmbeddings(values, offsets)

    def _batches(
        self,
        tokens: Tokens,
        layers: Sequence[int],
        average: bool,
        batch_tokens: int,
        progress: bool,
        attention: bool,
        adapter: Sequence[str | None] | None = None,
    ) -> Generator[tuple[NDArray[np.int64], HiddenStates]]:
        """Batches of sequences of similar length: their places in `tokens`, and their hidden states."""
        from fastgenome.adapters.mixing import mixed_adapters

        rows = -(-tokens.lengths // self.encoder.stride)
        bar = progress_bar("embedding", float(tokens.lengths.sum()), shown=progress)
        mixed = mixed_adapters(self, adapter, len(rows))
        with _predicting(self.network), mixed as next_batch, bar as advance:
            for batch in token_budget_batches(rows, batch_tokens):
                next_batch(batch, rows[batch])
                ids, offsets = take_sequences(tokens.ids, tokens.offsets, batch)
                hidden = self._run(ids, offsets, layers, attention=attention)
                yield batch, averaged(hidden) if average else hidden
                advance(float(tokens.lengths[batch].sum()))

    def hidden_states(
        self,
        tokens: Tokens,
        *,
        layers: int | Literal["all"] | Sequence[int] = -1,
        token_types: NDArray[np.int64] | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Hidden states (rows, dim) float32 of one layer, or a tuple of them for "all" or several layers.

        Layer 0 is the embedding output. There is one row per token, or per group of tokens where the network
        joins `encoder.stride` of them. `token_types`, (total,), where the family has them. Gradients flow
        unless the caller turns them off.
        """
        check_packing(self, tokens)
        check_limit(self, tokens.lengths)
        wanted = range(len(self.encoder.widths)) if layers == "all" else layers
        states = self._run(tokens.ids, tokens.offsets, self._layers(wanted), token_types).states
        return states[0] if _is_whole(layers) else states

    def logits(self, tokens: Tokens, *, token_types: NDArray[np.int64] | None = None) -> Tensor:
        """Output of the head, (rows, outputs) float32; ModelError where the checkpoint has no head."""
        head = self.head
        logits: Tensor = head(self.hidden_states(tokens, token_types=token_types))
        return logits

    def save(self, directory: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors with weights of this type, each complete or not at all.

        Tensors have their published names. The files of the vocabulary come from where the model was loaded.
        Adapters are left out (see `save_adapter`), a merged one is part of the weights.
        """
        from fastgenome.adapters.attach import base_tensors

        tensors = base_tensors(self.network)
        if self.key_map is not None:
            tensors = published_tensors(tensors, self.key_map)
        vocabulary = self.files.directory if self.files else self.vocabulary_source
        save_checkpoint(directory, self.config, tensors, dtype=dtype, vocabulary=vocabulary)

    # Adapters know the networks that they are attached to, so their modules are imported on first use.

    def add_adapter(self, config: "AdapterConfig", *, name: str = "default") -> None:
        """Attach and activate a new adapter, e.g. LoRA(rank=8), and freeze the network itself."""
        from fastgenome.adapters import attach

        attach.add_adapter(self, config, name=name)

    def remove_adapter(self, *, name: str = "default") -> None:
        """Take an adapter off; after the last one the network is as it was before the first."""
        from fastgenome.adapters import attach

        attach.remove_adapter(self, name=name)

    def set_adapter(self, name: str | None) -> None:
        """Let one of the adapters act and learn, or with None the network alone act."""
        from fastgenome.adapters import attach

        attach.set_adapter(self, name)

    def adapter_parameters(self, *, name: str | None = None) -> list[nn.Parameter]:
        """The parameters of an adapter, by default of the active one."""
        from fastgenome.adapters import attach

        return attach.adapter_parameters(self, name=name)

    def merge_adapter(self) -> None:
        """Write the active adapter into the weights: the same function at the speed of the network alone."""
        from fastgenome.adapters import attach

        attach.merge_adapter(self)

    def unmerge_adapter(self) -> None:
        """Put back the weights from before `merge_adapter`, bit for bit."""
        from fastgenome.adapters import attach

        attach.unmerge_adapter(self)

    def save_adapter(self, directory: str | Path, *, name: str = "default") -> None:
        """Write an adapter as PEFT does: adapter_config.json and adapter_model.safetensors."""
        from fastgenome.adapters import peft_format

        peft_format.save_adapter(self, directory, name=name)

    def load_adapter(self, directory: str | Path, *, name: str = "default") -> None:
        """Attach and activate an adapter from files of this package or of PEFT, whose base this model is."""
        from fastgenome.adapters import peft_format

        peft_format.load_adapter(self, directory, name=name)

    @property
    def config_sha256(self) -> str:
        """Digest of what config.json says of the network; its defaults and its provenance do not count."""
        ours = {key: value for key, value in self.config.items() if key not in _FREE_FIELDS}
        return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()

    @property
    def tokenizer_sha256(self) -> str:
        """Digest of the vocabulary and of the special tokens around a sequence."""
        around = self.tokenizer([""]).ids.tolist()
        content = [sorted(self.tokenizer.vocabulary.items()), self.tokenizer.prefix_length, around]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def layer_indices(self, layer: int | Sequence[int] | None) -> tuple[int, ...]:
        """The layers meant by `layer`, None for the default ones; ArgumentError for one that is not there."""
        return self._layers(self.defaults.layers if layer is None else layer)

    def _averages(self, average_layers: bool | None) -> bool:
        return self.defaults.average_layers if average_layers is None else average_layers

    def check_window(self, window: int | None) -> None:
        """ArgumentError for windows of so many bases that none of full length could be embedded."""
        if not window or not self.max_length:
            return
        # One letter alone gives the fewest tokens; far beyond the limit there is no need to count them.
        tokens = len(self.tokenizer(["A" * min(window, 1000 * self.max_length)]).ids)
        if tokens > self.max_length:
            raise ArgumentError(
                f"window is {window}, which is {tokens} tokens or more; model {self.name!r} takes at most "
                f"{self.max_length} at a time"
            )

    def _layers(self, layer: int | Sequence[int]) -> tuple[int, ...]:
        layers = tuple(layer) if isinstance(layer, Sequence) else (layer,)
        last = self._last
        if not layers or any(not _is_whole(i) or not -last - 1 <= i <= last for i in layers):
            raise ArgumentError(
                f"layer must be one or more of {-last - 1} … {last} of model {self.name!r} "
                f"(0 is the embedding output, -1 the last layer), got {layer!r}"
            )
        return tuple(map(int, layers))

    def _run(
        self,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        layers: Sequence[int],
        token_types: NDArray[np.int64] | None = None,
        attention: bool = False,
    ) -> HiddenStates:
        packed = torch.from_numpy(np.ascontiguousarray(ids)).to(self.device)
        places = torch.from_numpy(np.ascontiguousarray(offsets, dtype=np.int64))
        options: dict[str, Any] = {"attention": True} if attention else {}
        if token_types is not None:
            types = np.ascontiguousarray(token_types)
            if types.dtype.kind not in "iu":
                raise ArgumentError(f"token_types must be whole numbers, got {types.dtype}")
            options["token_types"] = torch.from_numpy(types.astype(np.int64)).to(self.device)
        return self.encoder(packed, places, layers, **options)

    def _pooling_plan(self, pooling: str | Sequence[str] | None, special_tokens: bool | None) -> PoolingPlan:
        """What is pooled, how; ArgumentError for what this model cannot do."""
        names = parse_pooling(self.defaults.pooling if pooling is None else pooling)
        first = self.tokenizer.prefix[:1]
        if {"cls", "pooler"} & set(names) and first != (self.tokenizer.special_token_ids.get("cls"),):
            raise ArgumentError(
                f"pooling='cls' or 'pooler' needs a first special token that was trained to stand for the "
                f"sequence; model {self.name!r} has none"
            )
        if "pooler" in names and self.network.pooler is None:
            raise ArgumentError(f"pooling='pooler': the checkpoint of model {self.name!r} has no pooler")
        if "attention" in names and not self.encoder.has_attention:
            raise ArgumentError(f"pooling='attention': model {self.name!r} has no attention")
        special = self.defaults.special_tokens if special_tokens is None else special_tokens
        return PoolingPlan(names, special)

    def _pool(self, hidden: HiddenStates, how: PoolingPlan) -> Tensor:
        first, starts, ends = hidden.offsets[:-1], hidden.offsets[:-1], hidden.offsets[1:]
        if not how.special_tokens:
            starts = starts + self.tokenizer.prefix_length
            ends = ends - self.tokenizer.suffix_length
        weights = hidden.attention or (None,) * len(hidden.states)
        pooler = self.network.pooler
        pooled = [
            pool(states, starts, ends, how.names, first=first, pooler=pooler, attention=weight)
            for states, weight in zip(hidden.states, weights, strict=True)
        ]
        return torch.cat(pooled, 1)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


@contextmanager
def _predicting(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, freed memory at hand; each part's own mode is restored."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode(), freed_memory_kept():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
