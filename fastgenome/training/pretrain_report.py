"""What a pre-training run did, for people and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SourceReport:
    """What one source gave, and how well it is predicted.

    Attributes:
        name: the source as it was given.
        reading: the account of its records, ReadReport.to_dict().
        blocks_too_short: pieces of its sequences with too few known bases to use.
        train_bases, held_out_bases: bases in the training and in the held-out blocks, one strand.
        repeated_bases: held-out bases in blocks that a training block repeats as a whole, on either strand;
            where they are many, the perplexities say less about unseen DNA.
        perplexity: per hidden base of the source's held-out blocks; 4 is chance. None without such bases.
        markov_perplexity: of the same bases under Markov models of all training bases, by order.
    """

    name: str
    reading: dict[str, Any]
    blocks_too_short: int
    train_bases: int
    held_out_bases: int
    repeated_bases: int
    perplexity: float | None
    markov_perplexity: dict[int, float]

    def summary(self) -> str:
        """One line for people."""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.reading["reasons"].items())
        parts = [
            f"{self.reading['n_in']:,} records read, {self.reading['n_out']:,} used, "
            f"{self.reading['n_rejected']:,} rejected" + (f" ({reasons})" if reasons else ""),
            f"{self.train_bases:,} bases trained on, {self.held_out_bases:,} held out",
        ]
        if self.repeated_bases:
            parts[-1] += f" ({self.repeated_bases:,} of them repeated in training)"
        if self.blocks_too_short:
            parts.insert(1, f"{self.blocks_too_short:,} blocks too short")
        return f"{self.name}: " + "; ".join([*parts, _held_out(self.perplexity, self.markov_perplexity)])


@dataclass(frozen=True)
class PretrainReport:
    """What a run did.

    Attributes:
        steps, bases, seconds: of the whole run, resumed parts included.
        energy_kwh, co2e_g: of the same; None unless all parts were measured.
        train_bases, held_out_bases: sizes of the corpus, one strand.
        perplexity: per hidden held-out base at the end, with the weights as they are saved; sources count by
            their held-out bases. None without held-out bases.
        markov_perplexity: the same bases under k-mer Markov models of the training bases, by order;
            these see every base on the left, hidden ones too.
        sources: the same figures source by source.
        loss: the loss curve, rows of step, bases, seconds, loss (nats), learning_rate, perplexity (held-out).
    """

    steps: int
    bases: int
    seconds: float
    energy_kwh: float | None
    co2e_g: float | None
    train_bases: int
    held_out_bases: int
    perplexity: float | None
    markov_perplexity: dict[int, float]
    sources: tuple[SourceReport, ...]
    loss: list[dict[str, float | None]]

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PretrainReport:
        """The report that to_dict gave, also by way of JSON; KeyError or TypeError where it is none."""
        sources = tuple(SourceReport(**_with_orders(source)) for source in values["sources"])
        return cls(**{**_with_orders(values), "sources": sources})

    def summary(self) -> str:
        """A line for the run and one for each source, for people."""
        run = f"{self.steps} steps, {self.bases / 1e6:.1f} Mbp in {self.seconds:.0f} s"
        if self.energy_kwh is not None:
            run += f", {self.energy_kwh * 1000:.3g} Wh, {self.co2e_g:.3g} g CO2e"
        run += f"; {_held_out(self.perplexity, self.markov_perplexity)}"
        return "\n".join([run, *(f"  {source.summary()}" for source in self.sources)])


def _held_out(perplexity: float | None, markov_perplexity: dict[int, float]) -> str:
    if perplexity is None:
        return "no held-out bases to score"
    beside = ", ".join(f"order {k}: {value:.3f}" for k, value in markov_perplexity.items())
    return f"held-out perplexity {perplexity:.3f} per base (Markov models: {beside})"


def _with_orders(values: dict[str, Any]) -> dict[str, Any]:
    """JSON turns the orders into strings."""
    markov = {int(order): value for order, value in values["markov_perplexity"].items()}
    return {**values, "markov_perplexity": markov}
