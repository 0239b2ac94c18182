"""A loaded model: tokenizer, network and head, from sequences to embeddings."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastgenome.batching import take_sequences, token_budget_batches
from fastgenome.errors import ArgumentError, InputError, ModelError, SequenceTooLongError
from fastgenome.models.checkpoint import save_checkpoint
from fastgenome.models.encoder import Encoder, HiddenStates
from fastgenome.pooling import Pooling, parse_pooling, pool
from fastgenome.progress import progress_bar
from fastgenome.tokenizers import Tokenizer, Tokens

# Rows per batch at which two cores embed fastest: large enough for the products, small enough for the cache.
BATCH_TOKENS = 4096

# Fields of config.json that do not change what the network computes.
_FREE_FIELDS = ("training", "licence", "default_pooling", "default_layers")


class Network(nn.Module):
    """The trained parts of a model; their names are those of the tensors in its checkpoint."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head


class Model:
    """A model ready to embed; made by `fastgenome.load` or by a family's `create`.

    `dim` is the width of a hidden state, `embedding_dim` that of an embedding with the default pooling and
    layers. `licence` is that of the weights and `sha256` their digest (None for weights not loaded from
    files). `min_length` is in bases; `max_length` in tokens, special ones included, None without limit.
    `config` is config.json. `network` holds what can be trained.
    """

    def __init__(
        self,
        *,
        name: str,
        encoder: Encoder,
        tokenizer: Tokenizer,
        licence: str,
        config: dict[str, Any],
        head: nn.Module | None = None,
        default_pooling: str = "mean",
        default_layers: Sequence[int] = (-1,),
        min_length: int = 1,
        max_length: int | None = None,
    ) -> None:
        self.name = name
        self.network = Network(cast(nn.Module, encoder), head)
        self.tokenizer = tokenizer
        self.licence = licence
        self.config = config
        self.default_pooling = default_pooling
        self.default_layers = tuple(default_layers)
        self.min_length = min_length
        self.max_length = max_length
        self.sha256: str | None = None
        if encoder.stride > 1 and tokenizer.prefix_length + tokenizer.suffix_length:
            raise ArgumentError("a network that joins ids into rows needs a tokenizer without special tokens")
        parse_pooling(default_pooling)
        self._layers(self.default_layers)

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
        """Width of a hidden state."""
        return self.encoder.dim

    @property
    def embedding_dim(self) -> int:
        """Width of an embedding with the default pooling and layers."""
        return self.embedding_width()

    def embedding_width(
        self, *, pooling: str | Sequence[str] | None = None, layer: int | Sequence[int] | None = None
    ) -> int:
        """Width of the embeddings that `embed` gives with the same arguments."""
        poolings = parse_pooling(self.default_pooling if pooling is None else pooling)
        return self.dim * len(poolings) * len(self._layers(self.default_layers if layer is None else layer))

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
        sequences: Sequence[str] | str | Path,
        *,
        pooling: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
        special_tokens: bool = False,
        batch_tokens: int = BATCH_TOKENS,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embeddings (n, dim) float32 of a list of sequences, or of the records of a file, in their order.

        `pooling`: "mean", "max", "cls", "last" or several joined by "+"; `layer`: 0 for the embedding output
        to -1 for the last, or several. Several are joined side by side, poolings within layers. None is the
        model's default. `special_tokens` pools over them too. A batch has at most `batch_tokens` rows.
        Raises InputError for a sequence without a token, SequenceTooLongError for one beyond `max_length`.
        """
        records = self._as_list(sequences)
        poolings = parse_pooling(self.default_pooling if pooling is None else pooling)
        layers = self._layers(self.default_layers if layer is None else layer)
        width = self.embedding_width(pooling=pooling, layer=layer)
        embeddings = np.empty((len(records), width), dtype=np.float32)
        bases = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
        tokens = self.tokenizer(records)
        self._check_lengths(tokens.lengths, bases)
        rows = -(-tokens.lengths // self.encoder.stride)
        bar = progress_bar("embedding", float(bases.sum()), shown=progress)
        with _evaluating(self.network), torch.inference_mode(), bar as advance:
            for batch in token_budget_batches(rows, batch_tokens):
                hidden = self._run(*take_sequences(tokens.ids, tokens.offsets, batch), layers)
                embeddings[batch] = self._pool(hidden, poolings, special_tokens).cpu().numpy()
                advance(float(bases[batch].sum()))
        return embeddings

    def hidden_states(
        self, tokens: Tokens, *, layers: int | Literal["all"] | Sequence[int] = -1
    ) -> Tensor | tuple[Tensor, ...]:
        """Hidden states (rows, dim) float32 of one layer, or a tuple of them for "all" or several layers.

        Layer 0 is the embedding output. There is one row per token, or per group of tokens where the network
        joins `encoder.stride` of them. Gradients flow unless the caller turns them off.
        """
        _check_packing(tokens, self.tokenizer.vocabulary_size)
        self._check_limit(tokens.lengths)
        wanted = range(self.encoder.n_layers + 1) if layers == "all" else layers
        states = self._run(tokens.ids, tokens.offsets, self._layers(wanted)).states
        return states[0] if isinstance(layers, int) else states

    def logits(self, tokens: Tokens) -> Tensor:
        """Output of the head, (rows, outputs) float32; ModelError where the checkpoint has no head."""
        head = self.head
        _check_packing(tokens, self.tokenizer.vocabulary_size)
        self._check_limit(tokens.lengths)
        logits: Tensor = head(self._run(tokens.ids, tokens.offsets, (-1,)).states[0])
        return logits

    def save(self, directory: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors with weights of this type, each complete or not at all."""
        save_checkpoint(directory, self.config, self.network.state_dict(), dtype=dtype)

    def _as_list(self, sequences: Sequence[str] | str | Path) -> list[str]:
        """The sequences given, or those of the file named; InputError if records of the file are rejected."""
        if not isinstance(sequences, str | Path):
            records = list(sequences)
            wrong = next((i for i, record in enumerate(records) if not isinstance(record, str)), None)
            if wrong is not None:
                raise InputError(f"sequences[{wrong}] is {type(records[wrong]).__name__}, expected str")
            return records
        from fastgenome.sequences import read_sequences

        reader = read_sequences(sequences, min_length=self.min_length)
        records = [record.sequence for record in reader]
        if reader.report.n_rejected:
            # An array has no place to say which rows are missing.
            raise InputError(f"{sequences} has unusable records: {reader.report.summary()}")
        return records

    @property
    def config_sha256(self) -> str:
        """Digest of what config.json says of the network; its defaults and its provenance do not count."""
        ours = {key: value for key, value in self.config.items() if key not in _FREE_FIELDS}
        return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()

    def layer_indices(self, layer: int | Sequence[int] | None) -> tuple[int, ...]:
        """The layers meant by `layer`, None for the default ones; ArgumentError for one that is not there."""
        return self._layers(self.default_layers if layer is None else layer)

    def check_window(self, window: int | None) -> None:
        """ArgumentError for windows of so many bases that none of full length could be embedded."""
        if window and self.max_length and self.tokenizer.bases_per_token == 1 and window > self.max_length:
            raise ArgumentError(
                f"window is {window}, model {self.name!r} takes at most {self.max_length} bases at a time"
            )

    def _layers(self, layer: int | Sequence[int]) -> tuple[int, ...]:
        layers = tuple(layer) if isinstance(layer, Sequence) else (layer,)
        last = self.encoder.n_layers
        if not layers or any(not _is_whole(i) or not -last - 1 <= i <= last for i in layers):
            raise ArgumentError(
                f"layer must be one or more of {-last - 1} … {last} of model {self.name!r} "
                f"(0 is the embedding output, -1 the last layer), got {layer!r}"
            )
        return tuple(map(int, layers))

    def _run(self, ids: NDArray[np.int32], offsets: NDArray[np.int64], layers: Sequence[int]) -> HiddenStates:
        packed = torch.from_numpy(np.ascontiguousarray(ids)).to(self.device)
        return self.encoder(packed, torch.from_numpy(np.ascontiguousarray(offsets, dtype=np.int64)), layers)

    def _pool(self, hidden: HiddenStates, poolings: Sequence[Pooling], special_tokens: bool) -> Tensor:
        first, starts, ends = hidden.offsets[:-1], hidden.offsets[:-1], hidden.offsets[1:]
        if not special_tokens:
            starts = starts + self.tokenizer.prefix_length
            ends = ends - self.tokenizer.suffix_length
        if "cls" in poolings and not self.tokenizer.prefix_length:
            raise ArgumentError(f"pooling='cls' needs a first special token; model {self.name!r} has none")
        return torch.cat([pool(states, starts, ends, poolings, first=first) for states in hidden.states], 1)

    def _check_lengths(self, lengths: NDArray[np.int64], bases: NDArray[np.int64]) -> None:
        special = self.tokenizer.prefix_length + self.tokenizer.suffix_length
        without = np.flatnonzero(lengths <= special)
        if len(without):
            index = int(without[0])
            raise InputError(
                f"sequences[{index}] has {bases[index]} bases and gives no token; model {self.name!r} needs "
                f"at least {self.min_length}: leave such sequences out"
            )
        self._check_limit(lengths)

    def _check_limit(self, lengths: NDArray[np.int64]) -> None:
        if self.max_length is None or not (lengths > self.max_length).any():
            return
        index = int(np.flatnonzero(lengths > self.max_length)[0])
        raise SequenceTooLongError(
            f"sequences[{index}] has {lengths[index]} tokens, model {self.name!r} takes at most "
            f"{self.max_length}: cut it into windows with window= (--window on the command line)",
            index,
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_packing(tokens: Tokens, vocabulary_size: int) -> None:
    """Tokens may be built by a caller; wrong ones would give numbers without a meaning."""
    ids, offsets = tokens
    if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
        raise ArgumentError(
            f"tokens.offsets must rise from 0 to the number of ids, {len(ids)}; got {offsets[:9]}"
        )
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < vocabulary_size):
        raise ArgumentError(
            f"tokens.ids must lie in 0 … {vocabulary_size - 1}; got {int(ids.min())} … {int(ids.max())}"
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part's own mode is restored."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
