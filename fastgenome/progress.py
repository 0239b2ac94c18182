"""The progress bar of long work, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a bar on by an amount and replaces the note behind it."""

    def __call__(self, amount: float, note: str = "") -> None: ...


@contextmanager
def progress_bar(
    description: str, total: float | None, *, shown: bool, done: float = 0.0
) -> Iterator[Advance]:
    """Show a bar with the time left while the block runs.

    Args:
        description: what is going on.
        total: amount of the whole work in any unit; None where it is not known.
        shown: False makes everything here do nothing.
        done: amount that an earlier run has already done.
    """
    if not shown:
        yield lambda amount, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=int(done), note="")

        def advance(amount: float, note: str = "") -> None:
            bar.update(task, advance=amount, note=note)

        yield advance
