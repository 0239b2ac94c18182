"""The exceptions of fastgenome.

FastgenomeError
├── InputError (ValueError)        a file, record, column or label is not usable
│   └── TruncatedInputError        a compressed or structured file ends too early
├── ArgumentError (ValueError)     an argument has a value that is not accepted
├── ModelError                     a model cannot be found, loaded or used this way
│   ├── CheckpointError            files of a model or predictor are missing, damaged or do not fit
│   └── SequenceTooLongError       a sequence exceeds the model's limit
└── MissingExtraError (ImportError)  an optional dependency is not installed
"""


class FastgenomeError(Exception):
    """Base of every error that fastgenome raises on purpose."""


class InputError(FastgenomeError, ValueError):
    """A file, record, column or label cannot be used."""


class TruncatedInputError(InputError):
    """A compressed or structured input ends before its end."""


class ArgumentError(FastgenomeError, ValueError):
    """An argument has a value that is not accepted."""


class ModelError(FastgenomeError):
    """A model cannot be found, loaded or used this way."""


class CheckpointError(ModelError):
    """Files of a model or predictor are missing, damaged or do not fit together."""


class SequenceTooLongError(ModelError, ValueError):
    """A sequence has more tokens than the model accepts."""


class MissingExtraError(FastgenomeError, ImportError):
    """An optional dependency is not installed; the message holds the install line."""
