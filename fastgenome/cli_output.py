"""What a command prints: its report for people or as JSON, and its errors in one line."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from fastgenome.errors import FastgenomeError, RejectedRecordsError

if TYPE_CHECKING:
    from fastgenome.scoring.accounts import Account
    from fastgenome.sequences import ReadReport

# Rejected records that are listed one by one for people; --json holds up to 1,000.
_LISTED = 10


class Output:
    """Collects a command's report and prints it once, for people or machines."""

    def __init__(self, as_json: bool, stdout_taken: bool) -> None:
        self.as_json = as_json
        self.stream = sys.stderr if stdout_taken else sys.stdout
        self.report: dict[str, Any] = {}
        self.lines: list[str] = []

    def add(self, line: str, **values: Any) -> None:
        """One line for people, named values for machines."""
        self.lines.append(line)
        self.report.update(values)

    def add_rejections(self, reading: ReadReport | Account) -> None:
        """The rejected records of a source or job, each with its reason, for people."""
        for rejection in reading.rejections[:_LISTED]:
            self.lines.append(
                f"  rejected record {rejection.number} ({rejection.id}): "
                f"{rejection.reason}, {rejection.detail}"
            )
        if reading.n_rejected > _LISTED:
            self.lines.append(f"  … and {reading.n_rejected - _LISTED:,} more")

    def flush(self) -> None:
        """Print what was collected, if anything was."""
        if self.lines or self.report:
            text = json.dumps(self.report, indent=2, default=str) if self.as_json else "\n".join(self.lines)
            print(text, file=self.stream)

    def fail(self, error: Exception) -> None:
        """Print an error in one line, to standard error."""
        if self.as_json:
            text = json.dumps({"error": type(error).__name__, "message": _message(error)})
        else:
            text = f"fastgenome: error: {_message(error)}"
        print(text, file=sys.stderr)


@contextmanager
def command(as_json: bool, *, emissions: bool = False, out: str = "") -> Iterator[Output]:
    """Run a command's body and print its report when it ends well.

    Errors of fastgenome and of the system become one line and exit status 1; the account of a strict reading
    is printed before it. Warnings become one line each.
    """
    output = Output(as_json, stdout_taken=out == "-")
    failure: Exception | None = None
    footprint = None
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.showwarning = _show_warning
            if emissions:
                from fastgenome.emissions import track_emissions

                footprint = stack.enter_context(track_emissions())
            yield output
    except BrokenPipeError:
        # Who reads the output wants no more of it: no news to them.
        raise
    except (FastgenomeError, OSError) as error:
        failure = error
        output.lines.clear()
        output.report.clear()
        if isinstance(error, RejectedRecordsError):
            output.add(error.report.summary(), reading=error.report.to_dict())
            output.add_rejections(error.report)
    if footprint is not None and (failure is None or output.report):
        output.add(footprint.summary(), emissions=footprint.to_dict())
    output.flush()
    if failure is not None:
        output.fail(failure)
        raise typer.Exit(1)


def _show_warning(message: Warning | str, *place: Any, **rest: Any) -> None:
    print(f"fastgenome: warning: {message}", file=sys.stderr)


def _message(error: Exception) -> str:
    """The message of an error; of one of the system what failed and for which file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error)
