"""What a receiver on a serial port costs the agent: CPU and fixes of the source alone.

``milepost-sim nmea`` plays the receiver on a pseudo terminal at its baud rate, in a process
of its own; this one holds the source, an inbox, and nothing else of the agent.

    python bench/serial_source.py --json
    python bench/serial_source.py --log drive-5hz.nmea --baud 115200
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _receiver import ROOT, take_fixes, tell, words_given

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import Inbox
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.nmea.baud import BaudMemory
from agent.sources.nmea.source import NmeaSource

WARM_UP_S = 5.0


def figures(log: Path, baud: int, duration_s: float) -> dict[str, Any]:
    """Measure for so long, after the port was found."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "gps0"
        command = [sys.executable, "-m", "simulator", "nmea", str(log), "--link", str(link)]
        receiver = subprocess.Popen(
            [*command, "--baud", str(baud), "--loop"],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert receiver.stdout is not None
        receiver.stdout.readline()
        inbox = Inbox()
        settings = GpsSettings.model_validate(
            {"source": "serial", "serial": {"device": str(link), "baud": baud}}
        )
        memories = BaudMemory(Path(folder)), CycleMemory(Path(folder))
        source = NmeaSource(settings, inbox, SystemClock(), *memories)
        source.start()
        try:
            take_fixes(inbox, WARM_UP_S)
            cpu_s, begun_s = time.process_time(), time.monotonic()
            before = source.account()
            fixes = take_fixes(inbox, duration_s)
            spent_s, lasted_s = time.process_time() - cpu_s, time.monotonic() - begun_s
            after = source.account()
        finally:
            source.stop()
            receiver.terminate()
            receiver.wait(10)
    return {
        "benchmark": "serial_source",
        "log": log.name,
        "baud": baud,
        "fixes_per_s": round(fixes / lasted_s, 2),
        "sentences_per_s": round((after["sentences"] - before["sentences"]) / lasted_s, 1),
        "bytes_per_s": round((after["bytes_read"] - before["bytes_read"]) / lasted_s),
        "bad_sentences": after["bad_sentences"],
        "cpu_percent": round(100 * spent_s / lasted_s, 2),
    }


def main() -> None:
    """Measure and print."""
    words = words_given(__doc__)
    result = figures(words.log.resolve(), words.baud, words.duration)
    tell(result, as_json=words.json)


if __name__ == "__main__":
    main()
