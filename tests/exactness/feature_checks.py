"""Features of fastgenome against their definitions, on every instruction set, one thread and several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import feature_references as by_definition
import numpy as np
from comparison import shrink
from feature_references import Values
from paths import instruction_sets
from references import cleaned
from texts import Source, batches

from fastgenome import _core, features

#: Quotients may differ in the last digits, counts may not; float32 is a float64 result rounded.
RELATIVE_ERROR = {"float64": 1e-15, "float32": 2.0**-24 + 1e-15}
MOST_MISMATCHES = 5
MOST_NUMBERS = 200_000
#: Of windows; each text is a call of its own.
MOST_WINDOWED = 25

#: Features of windows, with windows and strides: within, side by side, with gaps between.
WINDOWS = ((1, 1), (60, 7), (100, 100), (33, 200), (1500, 40))


class Check(NamedTuple):
    """A function of fastgenome and its definition, on cleaned texts.

    Where rows are wide, a share of the texts of a batch has to do: so many that their rows hold MOST_NUMBERS.

    Attributes:
        run: `run(texts, threads=…, out=…)`.
        dtype: of the result, and of a caller's buffer; None where the function takes none.
        width: numbers of a row.
        takes_threads: whether `run` takes `threads`.
    """

    name: str
    run: Callable[..., Any]
    definition: Callable[[Sequence[str]], Values]
    dtype: str | None = "float64"
    width: int = 1
    takes_threads: bool = True

    def most_texts(self) -> int:
        """As many as are compared at a time."""
        return max(1, MOST_NUMBERS // self.width)


def _composition_checks() -> Iterator[Check]:
    yield Check("base_counts", features.base_counts, by_definition.base_counts, "int64")
    yield Check(
        "gc_content, gc_skew, at_skew",
        lambda texts: np.stack(
            [f(texts) for f in (features.gc_content, features.gc_skew, features.at_skew)], 1
        ),
        by_definition.skews,
        dtype=None,
        takes_threads=False,
    )
    yield Check(
        "gc_content, nan",
        lambda texts: features.gc_content(texts, unknown="nan")[:, None],
        lambda texts: by_definition.nan_where_unknown(texts, by_definition.skews(texts)[:, :1]),
        dtype=None,
        takes_threads=False,
    )


def _kmer_checks() -> Iterator[Check]:
    def check(k: int, definition: Callable[[Sequence[str]], Values], **options: Any) -> Check:
        name = f"kmer_frequencies({k}{''.join(f', {key}={value}' for key, value in options.items())})"
        run = partial(features.kmer_frequencies, k=k, **options)
        return Check(name, run, definition, options.get("dtype", "float64"), 4**k)

    def frequencies(texts: Sequence[str], k: int) -> Values:
        return by_definition.frequencies(by_definition.kmer_counts(texts, k))

    for k in range(1, 9):
        yield check(k, partial(by_definition.kmer_counts, k=k), counts=True)
        yield check(k, partial(by_definition.canonical_counts, k=k), counts=True, canonical=True)
    for k in (1, 4, 6):
        yield check(k, partial(frequencies, k=k))
        yield check(k, partial(frequencies, k=k), dtype="float32")
    yield check(
        4, lambda texts: by_definition.frequencies(by_definition.canonical_counts(texts, 4)), canonical=True
    )
    yield check(3, lambda texts: by_definition.nan_where_unknown(texts, frequencies(texts, 3)), unknown="nan")


def _zcurve_checks() -> Iterator[Check]:
    sets = (
        (((1, 3), (2, 3), (3, 3)), ("phase", "count", "length", "conditional")),
        (((1, 1),), ("phase", "length")),
        (((4, 2), (1, 5), (6, 1)), ("conditional", "phase")),
        (((2, 1024),), ("count",)),
    )
    for blocks, norms in sets:
        width = max(phases * 4**k for k, phases in blocks)
        for norm in norms:
            for dtype in ("float64", "float32"):
                chosen = features.ParameterSet(blocks, norm=norm)
                run = partial(features.zcurve_parameters, parameters=chosen, dtype=dtype)
                definition = partial(by_definition.z_parameters, blocks=blocks, norm=norm)
                yield Check(f"zcurve_parameters({blocks}, {norm}, {dtype})", run, definition, dtype, width)
    blocks = ((3, 2), (1, 3))
    chosen = features.ParameterSet(blocks, layout="prefix-major", letters="AGCT")
    yield Check(
        "zcurve_parameters(prefix-major, AGCT)",
        partial(features.zcurve_parameters, parameters=chosen),
        partial(by_definition.z_parameters, blocks=blocks, prefix_letters="AGCT"),
        width=128,
    )
    yield Check(
        "zcurve_parameters(nan)",
        partial(features.zcurve_parameters, orders=(2,), phases=3, unknown="nan"),
        lambda texts: by_definition.nan_where_unknown(texts, by_definition.z_parameters(texts, ((2, 3),))),
        width=48,
    )
    for mode in ("summary", "normalized"):
        yield Check(
            f"zcurve({mode})",
            partial(features.zcurve, mode=mode),
            partial(_components, normalized=mode == "normalized"),
            dtype=None,
            takes_threads=False,
        )


def _components(texts: Sequence[str], normalized: bool) -> Values:
    return by_definition.z_parameters(texts, ((1, 1),)) if normalized else by_definition.components(texts)


def _curve_checks() -> Iterator[Check]:
    yield Check(
        "cumulative_zcurve",
        lambda texts, **options: features.cumulative_zcurve(texts, **options).values,
        by_definition.z_curve,
        "int32",
    )
    kinds = {"RY": ("AG", "CT"), "MK": ("AC", "GT"), "WS": ("AT", "CG"), "AT": ("A", "T"), "GC": ("G", "C")}
    definitions = {
        kind: partial(by_definition.step_curve, plus=plus, minus=minus)
        for kind, (plus, minus) in kinds.items()
    }
    for kind, definition in (definitions | {"CpG": by_definition.cpg_curve}).items():
        yield Check(
            f"disparity_curve({kind})",
            lambda texts, kind=kind, **options: features.disparity_curve(texts, kind, **options).values,
            definition,
            dtype=None,
        )


def _window_checks() -> Iterator[Check]:
    phased = features.ZCurve("parameters", orders=(1, 3), phases=3)
    rows: list[tuple[str, Any, Callable[[Sequence[str]], Values], int]] = [
        ("ZCurve(parameters)", phased, partial(by_definition.z_parameters, blocks=((1, 3), (3, 3))), 192),
        (
            "KmerFrequency(3, canonical, nan)",
            features.KmerFrequency(3, canonical=True, unknown="nan"),
            lambda texts: by_definition.nan_where_unknown(
                texts, by_definition.frequencies(by_definition.canonical_counts(texts, 3))
            ),
            64,
        ),
        ("GCContent(skews)", features.GCContent(skews=True), by_definition.skews, 3),
    ]
    for name, feature, definition, width in rows:
        for window, stride in WINDOWS:
            yield Check(
                f"windowed({name}, {window}, {stride})",
                partial(_windowed, feature=feature, window=window, stride=stride),
                partial(_of_windows, definition=definition, window=window, stride=stride),
                None,
                # A text of 1,000 bases has so many windows.
                max(width * (1000 // stride + 1), MOST_NUMBERS // MOST_WINDOWED),
            )


def _windowed(texts: Sequence[str], *, feature: Any, window: int, stride: int, threads: int = 0) -> Values:
    parts = []
    for number, text in enumerate(texts):
        values = features.windowed(text, feature, window=window, stride=stride, threads=threads).values
        if number % 2:
            out = np.full_like(values, -7)
            features.windowed(text, feature, window=window, stride=stride, threads=threads, out=out)
            values = out
        parts.append(values)
    return np.concatenate(parts)


def _of_windows(texts: Sequence[str], *, definition: Any, window: int, stride: int) -> Values:
    return definition(by_definition.windows_of(texts, window, stride))


def checks() -> list[Check]:
    """The functions that are compared."""
    makers = (_composition_checks, _kmer_checks, _zcurve_checks, _curve_checks, _window_checks)
    return [check for make in makers for check in make()]


def check_features(bases: int, seed: int, genome: str) -> tuple[int, list[str], int, float]:
    """Compares all features over about `bases` characters: bases, names, mismatches and seconds."""
    start = time.monotonic()
    source = Source(np.random.default_rng(seed), ["ACGT", "N", "ACGTACGTT"], ["<mask>"], genome)
    sets = instruction_sets()
    every = checks()
    done = mismatches = 0
    for batch in batches(source, bases):
        done += sum(map(len, batch.texts))
        wrong = cleaned(batch.texts)[1]
        texts = [text for text, is_wrong in zip(batch.texts, wrong, strict=True) if not is_wrong]
        for number, check in enumerate(every):
            # Another share of the texts for each check.
            step = max(1, -(-len(texts) // check.most_texts()))
            small = _smallest_fault(check, texts[number % step :: step], sets)
            if small is not None:
                mismatches += 1
                print(f"MISMATCH {check.name}, kind {batch.kind!r}, seed {seed}: {small!r}", flush=True)
        if mismatches >= MOST_MISMATCHES:
            break
    names = [f"{name}, {check.name}" for name in sets for check in every]
    return done, names, mismatches, time.monotonic() - start


def _smallest_fault(check: Check, texts: list[str], sets: Sequence[str]) -> list[str] | None:
    if not texts:
        return None
    expected = check.definition(cleaned(texts)[0])
    for name in sets:
        _core.limit_instruction_set(name)
        try:
            if _are_right(check, texts, expected):
                continue
            small = shrink(texts, partial(_is_wrong, check))
            return [shrink(small[0], lambda text: _is_wrong(check, [text]))] if len(small) == 1 else small
        finally:
            _core.limit_instruction_set(sets[-1])
    return None


def _is_wrong(check: Check, texts: list[str]) -> bool:
    return bool(texts) and not _are_right(check, texts, check.definition(cleaned(texts)[0]))


def _are_right(check: Check, texts: list[str], expected: Values) -> bool:
    """On one thread, and on three into a buffer that holds something else."""
    several: dict[str, Any] = {"threads": 3} if check.takes_threads else {}
    if check.dtype is not None:
        several["out"] = np.full(expected.shape, -7, check.dtype)
    for options in ({"threads": 1} if check.takes_threads else {}, several):
        got = check.run(texts, **options)
        is_type_right = check.dtype is None or got.dtype == check.dtype
        if not is_type_right or ("out" in options and got is not options["out"]):
            return False
        if not _is_close(got, expected):
            return False
    return True


def _is_close(got: Any, expected: Values) -> bool:
    if got.shape != expected.shape:
        return False
    unknown = np.isnan(expected)
    bound = RELATIVE_ERROR.get(str(got.dtype), 0.0) * np.abs(expected)
    # Compared as float64: the difference of two numbers so close is exact.
    is_close = np.abs(got.astype(np.float64) - expected) <= bound
    return bool(np.all(np.where(unknown, np.isnan(got), is_close)))
