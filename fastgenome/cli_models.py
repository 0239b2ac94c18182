"""The commands about models: which there are, whether they are the published ones, and older formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgenome.cli_options import Json
from fastgenome.cli_output import command

if TYPE_CHECKING:
    from fastgenome.models.verify import Comparison


def models(as_json: Json = False) -> None:
    """List the models that load by name."""
    with command(as_json) as output:
        from fastgenome.models.registry import REGISTRY
        from fastgenome.models.sources import installed
        from fastgenome.models.verify import verifiable

        known = verifiable()
        output.report["models"] = {}
        output.add(_row("name", "family", "licence", "parameters", "on disk", "source"))
        for name, entry in REGISTRY.items():
            place = installed(entry)
            size = f"{place.size_bytes / 1e6:,.1f} MB" if place else "no"
            parameters = f"{entry.parameters / 1e6:,g} M" if entry.parameters else "?"
            source = entry.source + (f"@{_short(entry.revision)}" if entry.revision else "")
            output.add(_row(name, entry.family, entry.licence, parameters, size, source))
            output.report["models"][name] = {
                "family": entry.family,
                "source": entry.source,
                "repository": entry.repository,
                "revision": entry.revision,
                "licence": entry.licence,
                "parameters": entry.parameters,
                "cached": place is not None,
                "directory": str(place.directory) if place else None,
                "size_bytes": place.size_bytes if place else None,
                "sha256": entry.weights,
                "verifiable": name in known,
                "description": entry.description,
            }


def _row(name: str, family: str, licence: str, parameters: str, size: str, source: str) -> str:
    return f"{name:<29} {family:<22} {licence:<33} {parameters:>10} {size:>11}  {source}"


def _short(revision: str) -> str:
    """A commit by its first digits, a branch by its name."""
    return revision[:12] if len(revision) == 40 else revision


def verify(
    name: Annotated[str, typer.Argument(help="a model whose figures are known, see models --json")],
    directory: Annotated[
        Path | None, typer.Option(help="its weights, where they are not those that the name loads")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a model's embeddings with the figures of the published one."""
    with command(as_json) as output:
        from fastgenome.models.verify import verify as compare

        comparisons = compare(name, directory=directory)
        for comparison in comparisons:
            output.add(_described(comparison))
        passed = all(comparison.passed for comparison in comparisons)
        output.add(
            f"{name}: {'equal to' if passed else 'DIFFERS FROM'} the published model",
            name=name,
            passed=passed,
            comparisons=[{**comparison._asdict(), "passed": comparison.passed} for comparison in comparisons],
        )
    if not passed:
        raise typer.Exit(1)


def _described(comparison: Comparison) -> str:
    sequence = comparison.sequence
    lines = [sequence if len(sequence) <= 60 else f"{sequence[:57]}…"]
    lines.append(f"  token ids: {'equal' if comparison.ids_equal else 'DIFFER'}")
    if not comparison.width_equal:
        lines.append("  width: DIFFERS")
    for field, bound in comparison.bounds.items():
        value = getattr(comparison, field)
        if field == "cosine":
            good, text = value >= bound, f"1 - cosine: {1 - value:.1e}, at most {1 - bound:.0e}"
        else:
            good, text = value <= bound, f"difference, {_WORDS[field]}: {value:.1e}, at most {bound:.0e}"
        lines.append(f"  {text}{'' if good else ', BEYOND'}")
    return "\n".join(lines)


_WORDS = {
    "max_abs": "largest of the published values",
    "mean_abs": "mean of the published values",
    "norm": "norm",
    "mean": "mean",
}


def convert(
    source: Annotated[str, typer.Argument(help="directory, name or hub id of a model with .bin or .ckpt")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the converted model")],
    as_json: Json = False,
) -> None:
    """Write pickled weights (.bin, .ckpt) as safetensors; no code in them is run."""
    with command(as_json) as output:
        from fastgenome.models.conversion import convert as convert_model

        done = convert_model(source, out)
        if done.family:
            check = f"loaded as a check, family {done.family}"
        else:
            check = "not loaded as a check: no family knows its config.json"
        output.add(
            f"{done.tensors} tensors of {', '.join(done.read)} written to {out}/model.safetensors "
            f"({done.size_bytes / 1e6:,.1f} MB); {check}",
            **{**done._asdict(), "directory": str(out)},
        )
