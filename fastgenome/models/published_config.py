"""The fields of a published config.json: each is used, known to change nothing, or an error."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastgenome.errors import ArgumentError, CheckpointError

T = TypeVar("T", int, float, bool, str)
Choice = TypeVar("Choice")
Built = TypeVar("Built")

# Nobody publishes networks of more layers; to make no more than the names of their tensors takes seconds.
MAX_LAYERS = 1000

# Fields of every transformers config that do not change what the network computes in evaluation.
_DEAD = {
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "architectures",
    "attention_probs_dropout_prob", "attn_implementation", "auto_map", "bos_token_id",
    "classifier_dropout", "cls_token_id", "cross_attention_hidden_size", "decoder_start_token_id",
    "dtype", "eos_token_id", "eos_token_ids", "finetuning_task", "gradient_checkpointing",
    "hidden_dropout_prob", "id2label", "initializer_range", "label2id", "mask_token_id", "model_type",
    "num_labels", "output_attentions", "output_hidden_states", "output_past", "pad_token_id", "prefix",
    "problem_type", "return_dict", "sep_token_id", "task_specific_params", "tf_legacy_loss",
    "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript", "transformers_version",
    "unk_token_id", "use_bfloat16", "use_cache",
}  # fmt: skip

# Fields for the generation of text, which older releases of transformers wrote into every config.json.
_GENERATION = {
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty",
    "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_scores", "remove_invalid_values", "repetition_penalty",
    "return_dict_in_generate", "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
}  # fmt: skip

# Fields that would change it, with the value at which they do not.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
}


class PublishedConfig:
    """Reads a config.json field by field; `finish` refuses what nobody asked for.

    `name` stands in error messages. Every method raises CheckpointError.
    """

    def __init__(self, values: Mapping[str, Any], *, name: str) -> None:
        self.name = name
        self._values = values
        self._seen: set[str] = set()

    def take(self, field: str, default: T | None = None) -> T:
        """The value of a field, which must have the type of `default`; without one, a whole number.

        Numbers that are not finite are no values of any field.
        """
        self._seen.add(field)
        value = self._values.get(field)
        if value is None:
            if default is None:
                raise CheckpointError(f"config.json of {self.name} lacks the field {field!r}")
            return default
        kind = int if default is None else type(default)
        accepted = (int, float) if kind is float else kind
        wrong = not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)
        if wrong or (kind is float and not _is_finite(value)):
            expected = "a finite number" if kind is float else kind.__name__
            raise CheckpointError(f"config.json of {self.name}: {field} is {value!r}, expected {expected}")
        return kind(value)  # type: ignore[return-value]

    def size(self, field: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value: int = self.take(field, default)
        if value < 1:
            raise CheckpointError(f"config.json of {self.name}: {field} is {value}, expected at least 1")
        return value

    def positive(self, field: str, default: float) -> float:
        """A number above 0, whole or not."""
        value = self.take(field, default)
        if value <= 0:
            raise CheckpointError(f"config.json of {self.name}: {field} is {value}, expected more than 0")
        return value

    def has(self, field: str) -> bool:
        """Whether the field is there."""
        return field in self._values

    def expect(self, field: str, *accepted: object) -> None:
        """The field, where it is given, must have one of these values; others are not supported."""
        self._seen.add(field)
        if field in self._values and not any(_equal(self._values[field], value) for value in accepted):
            raise CheckpointError(
                f"config.json of {self.name}: {field} is {self._values[field]!r}; "
                f"supported is {' or '.join(map(repr, accepted))}"
            )

    def choose(self, field: str, choices: Mapping[str, Choice], default: str | None = None) -> Choice:
        """What one of the names in `choices` stands for."""
        value = self.take(field, default or "")
        if value not in choices:
            raise CheckpointError(
                f"config.json of {self.name}: {field} is {value!r}; supported is {', '.join(choices)}"
            )
        return choices[value]

    def ignore(self, *fields: str) -> None:
        """These fields are known to change nothing in this family."""
        self._seen.update(fields)

    def build(self, kind: Callable[..., Built], **values: Any) -> Built:
        """`kind(**values)`; what it does not accept is a fault of the config."""
        try:
            return kind(**values)
        except ArgumentError as error:
            raise CheckpointError(f"config.json of {self.name}: {error}") from error

    def finish(self) -> None:
        """Refuse fields that are neither used nor known to change nothing."""
        for field, accepted in _NEUTRAL.items():
            if field not in self._seen:
                self.expect(field, *accepted)
        unknown = sorted(self._values.keys() - self._seen - _DEAD - _GENERATION)
        if unknown:
            raise CheckpointError(
                f"config.json of {self.name} has fields whose effect is not known: {', '.join(unknown)}"
            )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    # A whole number that no float holds.
    except OverflowError:
        return False


def _equal(value: object, accepted: object) -> bool:
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)
