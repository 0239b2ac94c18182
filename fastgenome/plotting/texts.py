"""Texts of files and people, made fit for pictures and pages."""

import re

# Control characters, of which XML holds none but white space, and the other characters that it cannot hold.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    r"""Return a text whose control characters are written as \xNN; what XML cannot hold is \uNNNN."""
    return _UNFIT.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
