"""Each recorded log through each way: the same fixes, or a difference that the golden file tells.

A golden file (``tests/golden/gps/<log>.toml``) opens with the device, where the log comes from
and why the ways differ; below stands what they gave. ``MILEPOST_WRITE_GOLDEN=1`` writes it
anew and keeps its head. The way through the simulator's reader is the reference.
"""

import hashlib
import os
import re
import tomllib
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pynmea2
import pytest

from agent.engine.geo import distance_m
from tests.conftest import TRACES
from tests.fakes import nmea
from tests.fakes.gps_ways import WAYS, Job, fixes_of

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "gps"
WRITE_GOLDEN = os.environ.get("MILEPOST_WRITE_GOLDEN") == "1"
REFERENCE = "simulator"
POSITION = re.compile(r"\$G[A-Z](?:RMC|GGA|GLL|GNS),[^$\r\n]*")
POSITION_DEG = 1e-6
SPEED_KMH = 0.1
ROLLOVER = timedelta(weeks=1024)
"""gpsd moves a date that lies before its own making by this, when the week number rolled over."""


@pytest.mark.needs("gpsd")
@pytest.mark.needs_traces
@pytest.mark.parametrize("name", nmea.RECORDED)
def test_the_ways_agree_on_position_speed_and_time(name, tmp_path, free_port):
    log = (TRACES / "nmea" / name).read_bytes()
    found = {}
    for way in WAYS:
        (tmp_path / way).mkdir()
        found[way] = fixes_of(way, Job(name, log, tmp_path / way, free_port))
    told = sentences_of(log)
    for fixes in found.values():
        for fix in fixes:
            assert_the_log_says(fix, told)
    reference = found.pop(REFERENCE)
    result = {REFERENCE: summary(reference)}
    for way, fixes in found.items():
        result[way] = {"modes": modes(fixes)} | compared(fixes, reference)
    golden = GOLDEN / f"{Path(name).stem}.toml"
    if WRITE_GOLDEN:
        write(golden, result)
    assert tomllib.loads(golden.read_text(encoding="utf-8")) == result


def compared(fixes, reference):
    """What of this way has no equal in the reference; what has must agree, or the test fails."""
    if all(fix.time is None for fix in reference):
        assert places(fixes) == places(reference)
        return {"fixes": len(fixes), "places": len(places(fixes))}
    weeks = redated_weeks(fixes, reference)
    ours = keyed([fix for fix in fixes if fix.time is not None], timedelta(weeks=weeks))
    theirs = keyed(reference)
    for key in ours.keys() & theirs.keys():
        one, other = ours[key], theirs[key]
        assert one.lat == pytest.approx(other.lat, abs=POSITION_DEG), key
        assert one.lon == pytest.approx(other.lon, abs=POSITION_DEG), key
        assert (one.speed_kmh is None) == (other.speed_kmh is None), key
        if one.speed_kmh is not None:
            assert one.speed_kmh == pytest.approx(other.speed_kmh, abs=SPEED_KMH), key
    return {
        "fixes": len(fixes),
        "redated_weeks": weeks,
        "untimed": sum(fix.time is None for fix in fixes),
        "only_here": clock_times(ours.keys() - theirs.keys()),
        "missing": clock_times(theirs.keys() - ours.keys()),
    }


def summary(fixes):
    """What the reference gave, in figures and as a digest."""
    lines = [f"{fix.time} {fix.lat:.7f} {fix.lon:.7f} {fix.speed_kmh}" for fix in fixes]
    steps = pairwise(fixes)
    length_m = sum(distance_m(one.lat, one.lon, two.lat, two.lon) for one, two in steps)
    return {
        "fixes": len(fixes),
        "modes": modes(fixes),
        "first": str(fixes[0].time),
        "last": str(fixes[-1].time),
        "distance_km": round(length_m / 1000, 2),
        "max_speed_kmh": max((fix.speed_kmh or 0.0 for fix in fixes), default=0.0),
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
    }


def modes(fixes):
    """How many of each."""
    return dict(sorted(Counter(str(fix.mode) for fix in fixes).items()))


def keyed(fixes, shift=timedelta()):
    """By time, and of several with one time (a clock that stepped back) by their order."""
    found = {}
    for fix in fixes:
        nth = 0
        while (fix.time - shift, nth) in found:
            nth += 1
        found[fix.time - shift, nth] = fix
    return found


def redated_weeks(fixes, reference):
    """By how many weeks the dates differ: none, or one rollover."""
    timed = next(fix for fix in fixes if fix.time is not None)
    return 1024 * round((timed.time - reference[0].time) / ROLLOVER)


def places(fixes):
    """The positions, without those that only repeat the one before."""
    rounded = [(round(fix.lat, 6), round(fix.lon, 6)) for fix in fixes]
    return [one for before, one in pairwise([None, *rounded]) if one != before]


def clock_times(keys):
    """Times of day, as text."""
    return sorted(f"{moment:%H:%M:%S.%f}"[:-4] for moment, _ in keys)


def sentences_of(log):
    """What the sound sentences with a position say, as an independent parser reads them."""
    told = {}
    for sentence in POSITION.findall(log.decode("latin-1")):
        try:
            read = pynmea2.parse(sentence, check=True)
        except pynmea2.ParseError:
            continue
        if not read.lat:
            continue
        place = (round(read.latitude, 6), round(read.longitude, 6))
        knots = getattr(read, "spd_over_grnd", None)
        moment = read.timestamp.replace(tzinfo=None) if read.timestamp else None
        told.setdefault(place, []).append((moment, knots))
    return told


def assert_the_log_says(fix, told):
    """Position, time of day and speed of a fix stand together in the log: nothing is invented."""
    near = [
        entry
        for lat in (fix.lat - 1e-6, fix.lat, fix.lat + 1e-6)
        for lon in (fix.lon - 1e-6, fix.lon, fix.lon + 1e-6)
        for entry in told.get((round(lat, 6), round(lon, 6)), ())
    ]
    assert near, f"no sentence has the position of {fix}"
    if fix.time is None:
        return
    at_that_time = [knots for moment, knots in near if moment == fix.time.time()]
    assert at_that_time, f"no sentence has the position and the time of {fix}"
    speeds_kmh = [knots * 1.852 for knots in at_that_time if knots is not None]
    if fix.speed_kmh is not None and speeds_kmh:
        assert any(abs(fix.speed_kmh - speed) < SPEED_KMH for speed in speeds_kmh), fix


def write(golden, result):
    """The results below the head that a person wrote."""
    old = golden.read_text(encoding="utf-8").splitlines() if golden.exists() else []
    lines = [line for line in old if line.startswith("#")]
    for way, figures in result.items():
        lines += ["", f"[{way}]"]
        lines += [f"{key} = {toml(value)}" for key, value in figures.items()]
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")


def toml(value):
    """The few kinds of values that stand in a golden file."""
    match value:
        case str():
            return f'"{value}"'
        case list():
            return "[\n" + "".join(f"  {toml(item)},\n" for item in value) + "]" if value else "[]"
        case dict():
            inner = ", ".join(f'"{key}" = {toml(item)}' for key, item in value.items())
            return f"{{ {inner} }}"
    return str(value)
