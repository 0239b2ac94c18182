"""Emissions: filled fields, offline, rank 0 only."""

import socket
import time

import pytest

from fastgenome.emissions import WORLD_CARBON_INTENSITY, track_emissions
from fastgenome.errors import ArgumentError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("emissions tracking must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("FASTGENOME_COUNTRY", raising=False)
    monkeypatch.delenv("RANK", raising=False)


def work(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))


def test_track_emissions_fills_energy_and_co2e() -> None:
    with track_emissions(interval=0.2) as footprint:
        work(1.0)
    assert footprint.measured
    assert footprint.seconds == pytest.approx(1.0, abs=0.5)
    parts = footprint.cpu_energy_kwh + footprint.ram_energy_kwh + footprint.gpu_energy_kwh
    assert footprint.energy_kwh == pytest.approx(parts, rel=1e-6)
    assert footprint.energy_kwh > 0
    assert footprint.co2e_g == pytest.approx(footprint.energy_kwh * WORLD_CARBON_INTENSITY)
    assert set(footprint.method) >= {"cpu", "ram"}
    assert f"{footprint.co2e_g:.3g} g CO2e" in footprint.summary()


def test_track_emissions_takes_the_intensity_of_a_country() -> None:
    with track_emissions(country="FRA") as france:
        pass
    with track_emissions(country="POL") as poland:
        pass
    # France's electricity is mostly nuclear, Poland's mostly coal.
    assert 0 < 4 * france.carbon_intensity < poland.carbon_intensity


def test_track_emissions_reads_the_country_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTGENOME_COUNTRY", "SWE")
    with track_emissions() as footprint:
        pass
    assert footprint.country == "SWE"
    assert footprint.carbon_intensity < 100


@pytest.mark.parametrize(
    "arguments",
    [{"country": "XX"}, {"carbon_intensity": -1.0}, {"interval": 0.0}],
    ids=lambda a: next(iter(a)),
)
def test_track_emissions_rejects_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ArgumentError), track_emissions(**arguments):  # type: ignore[arg-type]
        pass


def test_track_emissions_fills_the_footprint_after_an_exception() -> None:
    tracked = track_emissions(interval=0.2)
    footprint = tracked.__enter__()
    work(0.3)
    error = KeyError("inside")
    assert not tracked.__exit__(KeyError, error, None)
    assert footprint.measured
    assert footprint.energy_kwh > 0


def test_track_emissions_measures_on_rank_0_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with track_emissions() as footprint:
        work(0.05)
    assert not footprint.measured
    assert footprint.energy_kwh == 0.0
    assert footprint.seconds > 0
