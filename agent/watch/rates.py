"""How fast the agent's counters rise, worked out from two of its accounts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

_DROPS: Final = ("kernel_dropped", "controller_overflows")


@dataclass(frozen=True, slots=True)
class Look:
    """One account, and when it was given (monotonic)."""

    account: Mapping[str, Any]
    at_s: float


@dataclass(frozen=True, slots=True)
class BusRates:
    """Of one CAN bus, per second."""

    frames_per_s: float
    dropped_per_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second, between two looks at one run."""

    samples_per_s: float
    acknowledged_per_s: float
    bytes_per_s: float
    fixes_per_s: float
    buses: Mapping[str, BusRates] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``, rounded."""
        return _rounded(asdict(self))


def rates_between(before: Look | None, now: Look) -> Rates | None:
    """``None`` without an earlier look, or with one at another run of the agent."""
    if before is None or before.account["run_id"] != now.account["run_id"]:
        return None
    span_s = now.at_s - before.at_s
    if span_s <= 0:
        return None

    def rate(name: str) -> float:
        return float(now.account.get(name, 0) - before.account.get(name, 0)) / span_s

    return Rates(
        samples_per_s=rate("samples_created"),
        acknowledged_per_s=sum(
            rate(f"{kind}_acknowledged") for kind in ("samples", "events", "inherited")
        ),
        bytes_per_s=rate("bytes_published"),
        fixes_per_s=rate("fixes_received"),
        buses=_bus_rates(before.account, now.account, span_s),
    )


def _bus_rates(
    before: Mapping[str, Any], now: Mapping[str, Any], span_s: float
) -> dict[str, BusRates]:
    earlier = {bus["channel"]: bus for bus in before.get("can", ())}
    return {
        bus["channel"]: BusRates(
            (bus["frames"] - earlier[bus["channel"]]["frames"]) / span_s,
            sum(bus.get(name, 0) - earlier[bus["channel"]].get(name, 0) for name in _DROPS)
            / span_s,
        )
        for bus in now.get("can", ())
        if bus["channel"] in earlier
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _rounded(value) if isinstance(value, dict) else round(value, 2)
        for name, value in values.items()
    }
