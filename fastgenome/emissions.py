"""Time, energy and CO2e of a block of work, through codecarbon's offline tracker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from fastgenome.errors import ArgumentError

# World mean of electricity in 2023, g CO2e per kWh (Ember, Global Electricity Review 2024).
WORLD_CARBON_INTENSITY = 480.0


@dataclass
class Footprint:
    """What a block of work took; the fields are filled when the block ends.

    Attributes:
        seconds: wall-clock time.
        energy_kwh: energy of processor, memory and GPU together, kWh; the three parts stand beside it.
        co2e_g: grams of CO2 equivalents, ``energy_kwh * carbon_intensity``.
        method: how the power of each part was found: a measurement (RAPL, NVML …) or the name of an estimate.
        country: ISO 3166 alpha-3 code, or "world" for the world's mean.
        carbon_intensity: g CO2e per kWh.
        measured: False where this process did not track (any rank but 0).
    """

    seconds: float = 0.0
    energy_kwh: float = 0.0
    cpu_energy_kwh: float = 0.0
    ram_energy_kwh: float = 0.0
    gpu_energy_kwh: float = 0.0
    co2e_g: float = 0.0
    method: dict[str, str] = field(default_factory=dict)
    country: str = "world"
    carbon_intensity: float = WORLD_CARBON_INTENSITY
    measured: bool = False

    def to_dict(self) -> dict[str, object]:
        """All fields, ready for JSON."""
        return asdict(self)

    def summary(self) -> str:
        """One line for people."""
        if not self.measured:
            return f"{self.seconds:.1f} s (energy is tracked by rank 0)"
        how = ", ".join(f"{part}: {name}" for part, name in self.method.items())
        return (
            f"{self.seconds:.1f} s, {self.energy_kwh * 1000:.3g} Wh, {self.co2e_g:.3g} g CO2e "
            f"({self.country}, {self.carbon_intensity:.0f} g/kWh; {how})"
        )


@contextmanager
def track_emissions(
    *, country: str | None = None, carbon_intensity: float | None = None, interval: float = 1.0
) -> Iterator[Footprint]:
    """Measure the energy and CO2e of the enclosed block; no network is used.

    Args:
        country: ISO 3166 alpha-3 code for the carbon intensity of its electricity; by default the
            environment variable ``FASTGENOME_COUNTRY``, else the world's mean.
        carbon_intensity: g CO2e per kWh, in place of the country's figure.
        interval: seconds between two readings of power.

    Yields:
        A Footprint that is filled when the block ends, also when it ends with an exception. Under
        torchrun only rank 0 tracks.

    Raises:
        ArgumentError: the country is unknown, carbon_intensity is negative, or interval is not positive.

    Source: codecarbon's OfflineEmissionsTracker (RAPL, NVML; else estimated from load and TDP).
    """
    country = country or os.environ.get("FASTGENOME_COUNTRY") or None
    if carbon_intensity is None:
        carbon_intensity = WORLD_CARBON_INTENSITY if country is None else _country_intensity(country)
    if carbon_intensity < 0 or interval <= 0:
        raise ArgumentError(
            f"carbon_intensity must be >= 0 and interval > 0; got {carbon_intensity} and {interval}"
        )
    footprint = Footprint(country=country or "world", carbon_intensity=float(carbon_intensity))
    tracker = _start_tracker(footprint, interval) if os.environ.get("RANK", "0") == "0" else None
    start = time.perf_counter()
    try:
        yield footprint
    finally:
        footprint.seconds = time.perf_counter() - start
        if tracker is not None:
            _fill(footprint, tracker)


def _country_intensity(country: str) -> float:
    """g CO2e per kWh of a country's electricity, from codecarbon's table."""
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    source = DataSource()  # type: ignore[no-untyped-call]
    known = source.get_global_energy_mix_data()
    if country not in known:
        raise ArgumentError(
            f"country={country!r} is not an ISO 3166 alpha-3 code with a known carbon intensity "
            "(examples: DEU, FRA, USA); or give carbon_intensity= in g CO2e per kWh"
        )
    geography = GeoMetadata(country_iso_code=country, country_name=known[country]["country_name"])
    return float(Emissions(source).get_country_emissions(Energy.from_energy(kWh=1.0), geography)) * 1000


def _start_tracker(footprint: Footprint, interval: float) -> object:
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.external.logger import logger

    # The tracker's own log_level takes effect only after its first messages.
    logger.setLevel("CRITICAL")
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA" if footprint.country == "world" else footprint.country,
        force_carbon_intensity_g_co2e_kwh=footprint.carbon_intensity,
        measure_power_secs=interval,
        # Every way out of the process is shut, whatever a user's configuration file says.
        output_methods=[],
        emissions_endpoint=None,
        electricitymaps_api_token=None,
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    return tracker


def _fill(footprint: Footprint, tracker: object) -> None:
    tracker.stop()  # type: ignore[attr-defined]
    data = tracker.final_emissions_data  # type: ignore[attr-defined]
    footprint.cpu_energy_kwh = float(data.cpu_energy)
    footprint.ram_energy_kwh = float(data.ram_energy)
    footprint.gpu_energy_kwh = float(data.gpu_energy)
    footprint.energy_kwh = float(data.energy_consumed)
    footprint.co2e_g = footprint.energy_kwh * footprint.carbon_intensity
    footprint.method = {
        type(part).__name__.lower(): _power_source(part)
        for part in tracker._hardware  # type: ignore[attr-defined]
    }
    footprint.measured = True


def _power_source(part: object) -> str:
    """How codecarbon finds the power of one part of the machine."""
    mode = getattr(part, "_mode", None)
    if mode is None:
        return "measured (NVML)" if type(part).__name__ == "GPU" else "estimated from installed memory"
    if mode in ("cpu_load", "constant"):
        return f"estimated from {'load and ' if mode == 'cpu_load' else ''}thermal design power"
    return f"measured ({mode})"
