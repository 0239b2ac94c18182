"""The account of a scoring job: what came in, what was scored, what was rejected and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fastgenome.emissions import Footprint
from fastgenome.records import Rejection

_KEPT_REJECTIONS = 1000


@dataclass
class Account:
    """Records of one kind: `n_in = n_scored + n_rejected`.

    `reasons` counts the rejects by reason, `rejections` keeps the first 1,000.
    """

    n_in: int = 0
    n_scored: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def n_rejected(self) -> int:
        """Records that have no score."""
        return sum(self.reasons.values())

    def reject(self, rejection: Rejection) -> None:
        """Count a reject."""
        self.reasons[rejection.reason] = self.reasons.get(rejection.reason, 0) + 1
        if len(self.rejections) < _KEPT_REJECTIONS:
            self.rejections.append(rejection)

    def check(self) -> Account:
        """Return the account; RuntimeError for one in which a record is lost or counted twice."""
        if self.n_in != self.n_scored + self.n_rejected:
            raise RuntimeError(f"records were lost: {self.n_in} in, {self.n_scored} scored, {self.reasons}")
        return self

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Account:
        """The account that `to_dict` described."""
        rejections = [Rejection(**rejection) for rejection in content["rejections"]]
        return cls(content["n_in"], content["n_scored"], dict(content["reasons"]), rejections)

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {**asdict(self), "n_rejected": self.n_rejected}

    def summary(self, kind: str) -> str:
        """One line for people."""
        why = ", ".join(f"{reason} {count:,}" for reason, count in self.reasons.items())
        return f"{self.n_in:,} {kind}, {self.n_scored:,} scored, {self.n_rejected:,} rejected" + (
            f" ({why})" if why else ""
        )


def footprint_summary(footprint: Footprint, megabases: float) -> str:
    """Energy and CO2e of a job, in all and for each million bases, for people."""
    if not footprint.measured or not megabases:
        return footprint.summary()
    return (
        f"{footprint.summary()}; for each Mbp {footprint.energy_kwh * 1e6 / megabases:.3g} mWh, "
        f"{footprint.co2e_g * 1000 / megabases:.3g} mg CO2e"
    )
