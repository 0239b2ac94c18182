"""What the targets in Python share: how they are run.

Under atheris, which looks where the code branches, or, where atheris is not installed, with first inputs that
are changed at random. Takes libFuzzer's -max_total_time=, -runs=, -max_len= and -seed=.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None


def watched(*modules: str) -> AbstractContextManager[None]:
    """Modules imported within are those whose branches guide the fuzzer."""
    return nullcontext() if atheris is None else atheris.instrument_imports(include=list(modules))


def changed(data: bytes, chosen: random.Random) -> bytes:
    """A few stretches doubled, left out, or replaced by what often matters to a parser."""
    pieces = [
        b'"',
        b"{}",
        b"[]",
        b"null",
        b"-1",
        b"1e9",
        b"4294967296",
        b"true",
        b"\n",
        b"\xff",
        b"\\u0000",
        b" ",
    ]
    for _ in range(chosen.randint(1, 4)):
        begin = chosen.randint(0, len(data))
        end = min(len(data), begin + chosen.randint(0, 12))
        middle = chosen.choice(
            [b"", data[begin:end] * 2, chosen.choice(pieces), bytes([chosen.randrange(256)])]
        )
        data = data[:begin] + middle + data[end:]
    return data


def run_at_random(check: Callable[[bytes], None], seeds: Sequence[bytes], arguments: list[str]) -> int:
    """Changed seeds until the time or the number of runs is over; returns how many there were."""
    options = dict(argument[1:].split("=") for argument in arguments if argument.startswith("-"))
    seconds, runs = float(options.get("max_total_time", "inf")), float(options.get("runs", "inf"))
    chosen = random.Random(int(options.get("seed", 1)))
    end = time.monotonic() + seconds
    done = 0
    while done < runs and time.monotonic() < end:
        data = chosen.choice(seeds)
        check(data if done < len(seeds) else data[:1] + changed(data[1:], chosen))
        done += 1
    return done


def main(check: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Fuzzes as told on the command line; folders named there receive the first inputs."""
    if atheris is None:
        print("atheris is not installed: changing inputs at random")
        print(f"stat::number_of_executed_units: {run_at_random(check, seeds, sys.argv[1:])}")
        return
    # A file named there is an input to run again.
    for folder in filter(os.path.isdir, sys.argv[1:]):
        for number, content in enumerate(seeds):
            (Path(folder) / f"{number:03}").write_bytes(content)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
