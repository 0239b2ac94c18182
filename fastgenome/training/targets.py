"""What a predictor learns: the kind of task, its classes, and labels turned into numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastgenome.errors import ArgumentError, InputError
from fastgenome.records import is_missing_label

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]

# Whole numbers with more distinct values than this are read as a quantity, not as classes.
MAX_INTEGER_CLASSES = 50

# "1e1" and "0x1" are names: they must not fall together with the number that they could mean.
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(\.0*)?")
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]*[1-9][0-9]*(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """A kind of task and the meaning of its outputs.

    Attributes:
        kind: "binary", "multiclass", "multilabel" or "regression".
        classes: the class labels in column order (binary and multiclass), else empty.
        label_names: one name per target column; several are a multi-label target.

    Raises:
        ArgumentError: the parts do not fit together.
    """

    kind: TaskKind
    classes: tuple[int | str, ...] = ()
    label_names: tuple[str, ...] = ("label",)

    def __post_init__(self) -> None:
        _check_kind(self.kind, len(self.label_names))
        if not self.label_names or not all(isinstance(name, str) for name in self.label_names):
            raise ArgumentError(f"label_names must be one or more texts; got {self.label_names!r}")
        if len(set(self.label_names)) < len(self.label_names):
            raise ArgumentError(f"label_names must differ from each other; got {self.label_names!r}")
        if not all(isinstance(label, int | str) for label in self.classes):
            raise ArgumentError(f"classes must be whole numbers or texts; got {self.classes!r}")
        count = len(set(self.classes))
        fits = {"binary": count == 2, "multiclass": count > 2}.get(self.kind, count == 0)
        if not fits or count < len(self.classes):
            raise ArgumentError(
                f"a {self.kind} task cannot have the classes {self.classes!r}: binary needs two different "
                "ones, multiclass at least three, the others none"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the columns that ``predict_proba`` (or ``predict`` of a regression) gives."""
        if self.kind in ("binary", "multiclass"):
            return tuple(str(name) for name in self.classes)
        return self.label_names

    def encode(self, labels: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
        """Labels as numbers: class indices (n,), 0/1 (n, labels), or values (n,) for a regression.

        Raises:
            InputError: a label is missing, not a number, or not one of the classes.
        """
        values = _as_columns(labels)
        if self.kind == "regression":
            return _floats(values)[:, 0]
        if self.kind == "multilabel":
            numbers = _floats(values)
            if values.shape[1] != len(self.label_names):
                raise InputError(
                    f"expected the {len(self.label_names)} label columns {self.label_names}; "
                    f"got {values.shape[1]}"
                )
            if not np.isin(numbers, (0.0, 1.0)).all():
                raise InputError("a multi-label target must be 0 or 1 in every column")
            return numbers.astype(np.int64)
        index = {label: i for i, label in enumerate(self.classes)}
        plain = [_plain_label(value) for value in values[:, 0]]
        if unknown := sorted({str(label) for label in plain if label not in index}):
            raise InputError(f"labels {unknown[:5]} are not among the classes {list(self.classes)}")
        return np.array([index[label] for label in plain], dtype=np.int64)

    def decode(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Class indices (n,) as class labels (n,)."""
        return np.array(self.classes)[indices]


def infer_task(
    labels: Sequence[Any] | NDArray[Any],
    *,
    kind: TaskKind | None = None,
    label_names: tuple[str, ...] | None = None,
) -> Task:
    """Find the kind of task from the labels, unless it is named.

    Several columns of 0 and 1 are multi-label; numbers with fractions, or more than 50 distinct
    whole numbers, are a regression; everything else is classes.

    Raises:
        ArgumentError: kind is unknown or does not fit.
        InputError: a label is missing, or there is one class only.
    """
    values = _as_columns(labels)
    if kind is not None:
        _check_kind(kind, values.shape[1])
    names = label_names or tuple(f"label_{i}" if i else "label" for i in range(values.shape[1]))
    kind = kind or _kind_of(values)
    if kind == "regression":
        if len(np.unique(_floats(values))) < 2:
            raise InputError("the regression target has one value only; nothing can be learned from it")
        return Task(kind, (), names)
    if kind == "multilabel":
        task = Task(kind, (), names)
        spread = np.ptp(task.encode(values), axis=0)
        if constant := [name for name, width in zip(names, spread, strict=True) if width == 0]:
            raise InputError(f"label columns {constant} hold one class only; remove them or add data")
        return task
    plain = {_plain_label(value) for value in values[:, 0]}
    classes = tuple(sorted(plain, key=lambda label: (isinstance(label, str), label)))
    if len(classes) < 2:
        raise InputError(f"the labels hold one class only ({classes[0]!r}); at least two are needed")
    if kind == "binary" and len(classes) > 2:
        raise ArgumentError(f"task='binary' needs two classes; got {len(classes)}: {classes[:10]}")
    return Task("binary" if len(classes) == 2 else "multiclass", classes, names)


def _check_kind(kind: str, n_columns: int) -> None:
    if kind not in get_args(TaskKind):
        raise ArgumentError(f"task must be one of {', '.join(get_args(TaskKind))}; got {kind!r}")
    if n_columns > 1 and kind != "multilabel":
        raise ArgumentError(f"{n_columns} label columns fit task='multilabel' only; got {kind!r}")


def _as_columns(labels: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Labels as an object array (n, columns) without missing values."""
    values = np.asarray(labels, dtype=object)
    values = values.reshape(-1, 1) if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"labels must have shape (n,) or (n, labels) with n > 0; got {values.shape}")
    if any(isinstance(value, list | tuple | np.ndarray) for value in values.flat):
        raise InputError("labels must have as many columns in every row")
    missing = [i for i, row in enumerate(values) if any(map(is_missing_label, row))]
    if missing:
        raise InputError(f"{len(missing)} labels are missing or NaN, first at index {missing[0]}")
    return values


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"a numeric target is not a number: {error}") from None
    if not np.isfinite(numbers).all():
        raise InputError("a numeric target is NaN or infinite")
    return numbers


def _plain_label(value: Any) -> int | str:
    """A whole number or a truth value as int, anything else as text: 1, 1.0, "1" and True are one class."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    text = str(value).strip()
    return int(text.partition(".")[0]) if _WHOLE_NUMBER.fullmatch(text) else text


def _refuse_spoilt_numbers(labels: NDArray[Any]) -> None:
    """InputError where most labels are numbers, some with fractions: the others are faults, not classes."""
    texts = [str(label).strip() for label in labels]
    numbers = [text for text in texts if _WHOLE_NUMBER.fullmatch(text) or _FRACTION.fullmatch(text)]
    if 2 * len(numbers) > len(texts) and any(map(_FRACTION.fullmatch, numbers)):
        odd = sorted(set(texts) - set(numbers))
        raise InputError(
            f"most labels are numbers with fractions, but {odd[:5]} are not: correct these rows, "
            "or say task='multiclass' (--task)"
        )


def _kind_of(values: NDArray[Any]) -> TaskKind:
    if values.shape[1] > 1:
        return "multilabel"
    try:
        numbers = values[:, 0].astype(np.float64)
    except (TypeError, ValueError):
        _refuse_spoilt_numbers(values[:, 0])
        return "multiclass"
    whole = np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()
    if whole and len(np.unique(numbers)) <= MAX_INTEGER_CLASSES:
        return "multiclass"
    return "regression"
