"""Networks of transformers on packed ids: body, language-model head and pooler apart.

Each run of sequences of equal length is one call without padding and without a mask, so a sequence gets what
transformers gives for it alone. Nothing is made faster here.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn

from fastgenome.errors import ArgumentError, CheckpointError, ModelError
from fastgenome.models.encoder import HiddenStates, layer_indices, packing_of


class TransformersEncoder(nn.Module):
    """The body of a network of transformers, without its pooler.

    The last layer is what the network gives as its last hidden state, in most after a final norm. All layers
    run, whichever are asked for. `widths` and `output_type` are known after `measure`.
    """

    stride = 1
    has_attention = False

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        # BigBird gives up its sparse attention for good once it has seen a short sequence.
        self._attention_type: str | None = getattr(body, "attention_type", None)
        self._takes_types = "token_type_ids" in signature(body.forward).parameters
        embeddings = body.get_input_embeddings()  # type: ignore[operator]
        if not isinstance(embeddings, nn.Embedding):
            raise CheckpointError(f"{type(body).__name__} of transformers does not read token ids")
        self.vocabulary_size = embeddings.num_embeddings
        self.widths: tuple[int, ...] = ()
        self.output_type: type[Any] | None = None

    def measure(self) -> None:
        """Learn the widths and the type of the output from one token; the weights must be there."""
        with torch.no_grad():
            output = self._call(torch.zeros(1, 1, dtype=torch.int64), {}, inner=True)
        self.widths = tuple(states.shape[-1] for states in (*output.hidden_states[:-1], output[0]))
        self.output_type = type(output)

    def forward(
        self, ids: Tensor, offsets: Tensor, layers: Sequence[int] = (-1,), token_types: Tensor | None = None
    ) -> HiddenStates:
        """Hidden states (total, dim) float32 of the given layers, see `Encoder`."""
        if token_types is not None and not self._takes_types:
            raise ArgumentError("this model has no token types")
        last = len(self.widths) - 1
        wanted = layer_indices(layers, last + 1)
        inner = any(index != last for index in wanted)
        found = [[torch.zeros(0, self.widths[index], device=ids.device)] for index in wanted]
        for start, sequences, length in packing_of(offsets, ids.device).runs:
            rows = slice(start, start + sequences * length)
            types = {} if token_types is None else {"token_type_ids": token_types[rows].view(sequences, -1)}
            output = self._call(ids[rows].view(sequences, length).long(), types, inner=inner)
            for index, column in zip(wanted, found, strict=True):
                states = output[0] if index == last else output.hidden_states[index]
                # Inner states of BigBird are filled up to whole blocks.
                column.append(states[:, :length].flatten(0, 1).float())
        return HiddenStates(tuple(torch.cat(column) for column in found), offsets)

    def _call(self, ids: Tensor, types: dict[str, Tensor], *, inner: bool) -> Any:
        """Run (sequences, length) ids; the first entry of the output is the last hidden state."""
        if self._attention_type is not None:
            self.body.set_attention_type(self._attention_type)  # type: ignore[operator]
        try:
            return self.body(ids, **types, output_hidden_states=inner, return_dict=True)
        except RuntimeError as error:
            # Some networks multiply with the weights of their layers themselves.
            if "dtype" in str(error) and any(p.dtype != torch.float32 for p in self.body.parameters()):
                name = type(self.body).__name__
                raise ModelError(f"{name} computes in float32 alone: load it with dtype='float32'") from error
            raise


class TransformersHead(nn.Module):
    """The language-model head of a network of transformers: its own forward, on states that are there."""

    def __init__(self, model: nn.Module, encoder: TransformersEncoder, place: str) -> None:
        """`model` is the network with the head; `place` the name of its body, which is taken out of it."""
        super().__init__()
        setattr(model, place, _Given())
        self.model = model
        self._place = place
        self.outputs_like(encoder)

    def outputs_like(self, encoder: TransformersEncoder) -> None:
        """Hand states to the head in the type in which the (measured) encoder gives them."""
        getattr(self.model, self._place).output_type = encoder.output_type

    def forward(self, x: Tensor) -> Tensor:
        """(rows, dim) -> (rows, outputs), float32."""
        logits: Tensor = self.model(inputs_embeds=x[None], return_dict=True).logits
        return logits[0]


class _Given(nn.Module):
    """In the place of a body: gives its inputs as its last hidden states."""

    output_type: Any = None

    def forward(self, *ids: Any, inputs_embeds: Tensor, **options: Any) -> Any:
        return self.output_type(last_hidden_state=inputs_embeds)


class TransformersPooler(nn.Module):
    """The pooler of a network of transformers, on the states of the first tokens."""

    def __init__(self, pooler: nn.Module) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, x: Tensor) -> Tensor:
        """(n, dim) -> (n, dim) float32."""
        # BigBird's is the linear layer alone.
        bare = isinstance(self.pooler, nn.Linear)
        pooled: Tensor = torch.tanh(self.pooler(x)) if bare else self.pooler(x[:, None])
        return pooled


def cast_around_products(module: nn.Module) -> None:
    """Let linear layers take and give float32 whatever the type of their weights, as `linear` does."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(_to_weights)
            part.register_forward_hook(_to_float32)


def _to_weights(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].to(cast(Tensor, layer.weight).dtype), *inputs[1:])


def _to_float32(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()
