"""Position quality: how wrong the distance is, how still a parked vehicle stands, what it costs.

    python bench/positions.py --seeds 20

An RTK drive of 3 km, exact to centimetres, is the truth; errors of common and bad receivers are
added to it, and to a vehicle that is parked. Beside each figure stands the sum of the steps
between positions, which is what a naive counter has.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from _peers import arguments, progress, scratch, show

from agent.account import flash_bytes_written
from agent.config import PositionSettings
from agent.engine.odometer import GpsOdometer
from agent.engine.track import PositionTrack
from agent.inputs import Fix
from tests.conftest import TRACES
from tests.fakes.drives import recorded_fixes, summed_steps_m, travelled_m
from tests.fakes.receiver import NoisyReceiver, parked

TRUTH: Final = TRACES / "nmea" / "dev02_mtv_f9k_rtk_drive_a.nmea"
PARKED_S: Final = 6 * 3600
SAVES: Final = 50

RECEIVERS: Final[dict[str, dict[str, float]]] = {
    "common, 4 m": {},
    "5 % of its speeds wrong": {"spike_share": 0.05},
    "between houses, 15 m": {"sigma_m": 15.0, "time_s": 300.0},
    "poor, 10 m, 10 % wrong": {"sigma_m": 10.0, "speed_sigma_kmh": 1.0, "spike_share": 0.1},
}


def main() -> None:
    """Measure and print."""
    words = arguments(__doc__, seeds=(20, "how many drives for each receiver")).parse_args()
    show(measure(int(words.seeds)), as_json=words.json)


def measure(seeds: int) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"benchmark": "positions"}
    for name, errors in RECEIVERS.items():
        progress(f"a receiver: {name}")
        found[name] = {**_parked(errors), **(_driven(errors, seeds) if TRUTH.exists() else {})}
    return {**found, **_costs()}


def _parked(errors: dict[str, float]) -> dict[str, Any]:
    receiver = NoisyReceiver(1, **errors)
    fixes = [receiver.fix(true) for true in parked(PARKED_S)]
    track = PositionTrack(PositionSettings())
    places = set()
    metres = 0.0
    for fix in fixes:
        metres += track.take(fix, None, can_speed_kmh=None)
        if track.position is not None and track.position.stands:
            places.add((track.position.fix.lat, track.position.fix.lon))
    return {
        "parked_6_h_m": round(metres, 1),
        "parked_6_h_steps_m": round(summed_steps_m(fixes)),
        "parked_6_h_places": len(places),
    }


def _driven(errors: dict[str, float], seeds: int) -> dict[str, Any]:
    truth = recorded_fixes(TRUTH)
    true_m = summed_steps_m(truth)
    ours, steps = [], []
    for seed in range(seeds):
        receiver = NoisyReceiver(seed, **errors)
        noisy = [receiver.fix(fix) for fix in truth]
        ours.append(100 * (travelled_m(noisy, PositionSettings()) / true_m - 1))
        steps.append(100 * (summed_steps_m(noisy) / true_m - 1))
    return {
        "drive_error_percent": [round(min(ours), 2), round(max(ours), 2)],
        "drive_steps_error_percent": [round(min(steps), 1), round(max(steps), 1)],
    }


def _costs() -> dict[str, Any]:
    """CPU of a fix, and flash of a save."""
    receiver = NoisyReceiver(1)
    fixes = [receiver.fix(true) for true in parked(20_000)]
    track = PositionTrack(PositionSettings())
    began_s = time.perf_counter()
    for fix in fixes:
        track.take(fix, None, can_speed_kmh=None)
    fix_us = 1e6 * (time.perf_counter() - began_s) / len(fixes)
    with scratch() as folder:
        odometer = GpsOdometer(folder)
        before = flash_bytes_written()
        for index in range(SAVES):
            odometer.count(10.0, Fix(float(index), 50.0, 8.0 + index / 1000, accuracy_m=5.0))
            odometer.save()
        os.sync()
        after = flash_bytes_written()
    saved = None if before is None or after is None else round((after - before) / SAVES)
    return {"us_per_fix": round(fix_us, 1), "flash_bytes_per_save": saved}


if __name__ == "__main__":
    main()
