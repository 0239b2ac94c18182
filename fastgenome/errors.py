"""The exceptions of fastgenome.

FastgenomeError
├── InputError (ValueError)        a file, record, column or label is not usable
│   ├── TruncatedInputError        a compressed or structured file ends too early
│   └── RejectedRecordsError       records were rejected where none may be
├── ArgumentError (ValueError)     an argument has a value that is not accepted
│   └── DivergedError              training diverged under these settings
├── ModelError                     a model cannot be found, loaded or used this way
│   ├── CheckpointError            files of a model or predictor are missing, damaged or do not fit
│   └── SequenceTooLongError       a sequence exceeds the model's limit
└── MissingExtraError (ImportError)  an optional dependency is not installed
"""

from typing import Any


class FastgenomeError(Exception):
    """Base of every error that fastgenome raises on purpose."""


class InputError(FastgenomeError, ValueError):
    """A file, record, column or label cannot be used."""


class TruncatedInputError(InputError):
    """A compressed or structured input ends before its end."""


class RejectedRecordsError(InputError):
    """Records were rejected where none may be; `report` is the account of the reading."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report


class ArgumentError(FastgenomeError, ValueError):
    """An argument has a value that is not accepted."""


class DivergedError(ArgumentError):
    """Training diverged: weights, embeddings or losses became NaN or infinite."""


class ModelError(FastgenomeError):
    """A model cannot be found, loaded or used this way."""


class CheckpointError(ModelError):
    """Files of a model or predictor are missing, damaged or do not fit together."""


class SequenceTooLongError(ModelError, ValueError):
    """A sequence has more tokens than the model accepts; `index` is its place in what was given."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class MissingExtraError(FastgenomeError, ImportError):
    """An optional dependency is not installed; the message holds the install line."""
