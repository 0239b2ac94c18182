"""The licences of models' weights: shown where they exclude commercial use."""

import re
import warnings

_EXCLUDES_COMMERCE = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
_shown: set[str] = set()


class LicenceWarning(Warning):
    """The weights of a model may not be used for everything."""


def show_licence(name: str, licence: str) -> None:
    """Warn, once in a process for each model, of a licence that excludes commercial use."""
    if name in _shown or not _EXCLUDES_COMMERCE.search(licence):
        return
    _shown.add(name)
    warnings.warn(
        f"the weights of {name!r} are under {licence}: not for commercial use", LicenceWarning, stacklevel=3
    )
