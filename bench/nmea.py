"""NMEA sentences a second: the agent's parser beside pynmea2 and pynmeagps.

Two tasks, each parser with the same sentences, in turns: latitude, longitude and time of
RMC, GGA and GLL; and all that a fix needs of a whole log (position, time, date, speed,
course, altitude, quality, dilution, satellites, mode, error). pynmea2 makes a field when
it is asked for, pynmeagps all of them at once. Beside them stands the agent's whole way
from bytes to fixes, which frames and merges as well.

    python bench/nmea.py --json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pynmea2
import pynmeagps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import simulator
from agent.sources.nmea.parser import parse
from agent.sources.nmea.stream import NmeaStream

DRIVE: Final = Path(simulator.__file__).parent / "traces" / "default.nmea"
SOUND: Final = re.compile(rb"\$G[A-Z]{4},[^$*\r\n]*\*[0-9A-F]{2}")
WITH_POSITION: Final = (b"RMC", b"GGA", b"GLL")
READ_BYTES: Final = 256
TURNS: Final = 5

FIELDS: Final = {
    "RMC": "status latitude longitude timestamp datestamp spd_over_grnd true_course",
    "GGA": "gps_qual latitude longitude timestamp altitude num_sats horizontal_dil",
    "GLL": "status latitude longitude timestamp",
    "GSA": "mode_fix_type hdop",
    "VTG": "true_track spd_over_grnd_kts",
    "GST": "timestamp std_dev_latitude std_dev_longitude",
    "ZDA": "timestamp day month year",
}
"""What a fix needs, as pynmea2 names it."""

PYNMEA2_FIELDS: Final = {kind: names.split() for kind, names in FIELDS.items()}

Sentences = Sequence[bytes]


def agent(sentences: Sentences) -> None:
    """The agent's parser; it makes all fields of a kind at once."""
    for sentence in sentences:
        parse(sentence)


def pynmea2_position(sentences: Sentences) -> None:
    """pynmea2, latitude, longitude and time."""
    for sentence in sentences:
        read = pynmea2.parse(sentence.decode("ascii"), check=True)
        _ = read.latitude, read.longitude, read.timestamp


def pynmea2_all(sentences: Sentences) -> None:
    """pynmea2, every field that a fix needs."""
    for sentence in sentences:
        read = pynmea2.parse(sentence.decode("ascii"), check=True)
        for name in PYNMEA2_FIELDS.get(read.sentence_type, ()):
            getattr(read, name)


def pynmeagps_all(sentences: Sentences) -> None:
    """pynmeagps; there is no less."""
    for sentence in sentences:
        pynmeagps.NMEAReader.parse(sentence)


def agent_bytes_to_fixes(sentences: Sentences) -> None:
    """What a port gives, to fixes."""
    line = b"".join(sentence + b"\r\n" for sentence in sentences)
    stream = NmeaStream()
    for start in range(0, len(line), READ_BYTES):
        for _ in stream.feed(line[start : start + READ_BYTES], float(start)):
            pass


POSITIONS: Final = (agent, pynmea2_position, pynmeagps_all)
WHOLE_LOG: Final = (agent, pynmea2_all, pynmeagps_all, agent_bytes_to_fixes)


def rates(parsers: Sequence[Callable[[Sentences], None]], sentences: Sentences) -> dict[str, int]:
    """Sentences a processor second, the best of some turns."""
    best = dict.fromkeys((parser.__name__ for parser in parsers), 0.0)
    for _ in range(TURNS):
        for parser in parsers:
            begun = time.process_time()
            parser(sentences)
            rate = len(sentences) / (time.process_time() - begun)
            best[parser.__name__] = max(best[parser.__name__], rate)
    return {name: round(rate) for name, rate in best.items()}


def readable(sentence: bytes) -> bool:
    """Whether all three read it: recorded logs have fields that each of them refuses."""
    try:
        parse(sentence)
        pynmeagps_all([sentence])
        pynmea2_all([sentence])
    except (ValueError, pynmea2.ParseError, pynmeagps.NMEAParseError):
        return False
    return True


def figures(log: Path, count: int) -> dict[str, Any]:
    """All of them."""
    sound = SOUND.findall(log.read_bytes())[:count]
    sentences = [sentence for sentence in sound if readable(sentence)]
    positions = [
        sentence
        for sentence in sentences
        if sentence[3:6] in WITH_POSITION and getattr(parse(sentence), "lat", None) is not None
    ]
    found = rates(POSITIONS, positions)
    whole = rates(WHOLE_LOG, sentences)
    return {
        "benchmark": "nmea",
        "log": log.name,
        "refused_by_one": len(sound) - len(sentences),
        "positions": len(positions),
        **{f"position_{name}_per_s": rate for name, rate in found.items()},
        "position_to_pynmea2": round(found["agent"] / found["pynmea2_position"], 1),
        "position_to_pynmeagps": round(found["agent"] / found["pynmeagps_all"], 1),
        "sentences": len(sentences),
        **{f"log_{name}_per_s": rate for name, rate in whole.items()},
        "log_to_pynmea2": round(whole["agent"] / whole["pynmea2_all"], 1),
        "log_to_pynmeagps": round(whole["agent"] / whole["pynmeagps_all"], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=DRIVE, help="an NMEA log")
    parser.add_argument("--sentences", type=int, default=6_000, help="of the log's beginning")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    words = parser.parse_args()
    result = figures(words.log, words.sentences)
    if words.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
