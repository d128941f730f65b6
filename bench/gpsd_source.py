"""What gpsd costs the agent: CPU and fixes of the source alone, beside the real daemon.

``milepost-sim nmea`` plays the receiver on a pseudo terminal and gpsd reads it, each in a
process of its own; this one holds the source, an inbox, and nothing else of the agent.

    python bench/gpsd_source.py --json
    python bench/gpsd_source.py --log drive-5hz.nmea --baud 115200
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _receiver import ROOT, take_fixes, tell, words_given

from agent.config import GpsSettings
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox
from agent.sources.gps.own_cycle import CycleMemory
from agent.sources.gpsd.source import GpsdSource

WARM_UP_S = 5.0


def wakeups() -> int:
    """How often the source's thread went to sleep so far."""
    thread = next(one for one in threading.enumerate() if one.name == "gps")
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    fields = dict(line.split(":\t") for line in status.splitlines())
    return int(fields["voluntary_ctxt_switches"])


def figures(gpsd: str, log: Path, baud: int, duration_s: float) -> dict[str, Any]:
    """Measure for so long, after the first fixes."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        Path(folder).chmod(0o755)
        link = Path(folder) / "gps0"
        command = [sys.executable, "-m", "simulator", "nmea", str(log), "--link", str(link)]
        receiver = subprocess.Popen(
            [*command, "--baud", str(baud), "--loop"],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert receiver.stdout is not None
        receiver.stdout.readline()
        daemon = subprocess.Popen(
            [gpsd, "-N", "-n", "-b", "-s", str(baud), "-S", str(port), str(link)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        inbox = Inbox()
        source = GpsdSource(GpsSettings(port=port), inbox, SystemClock(), CycleMemory(Path(folder)))
        source.start()
        try:
            while not isinstance(inbox.get(1.0), FixReceived):
                pass
            take_fixes(inbox, WARM_UP_S)
            cpu_s, begun_s = time.process_time(), time.monotonic()
            sentences = source.account()["sentences"]
            woken = wakeups()
            fixes = take_fixes(inbox, duration_s)
            spent_s, lasted_s = time.process_time() - cpu_s, time.monotonic() - begun_s
            sentences = source.account()["sentences"] - sentences
            woken = wakeups() - woken
        finally:
            source.stop()
            for process in daemon, receiver:
                process.terminate()
                process.wait(10)
    return {
        "benchmark": "gpsd_source",
        "log": log.name,
        "baud": baud,
        "fixes_per_s": round(fixes / lasted_s, 2),
        "sentences_per_s": round(sentences / lasted_s, 1),
        "wakeups_per_s": round(woken / lasted_s, 1),
        "cpu_percent": round(100 * spent_s / lasted_s, 2),
    }


def main() -> None:
    """Measure and print."""
    words = words_given(__doc__)
    gpsd = shutil.which("gpsd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if gpsd is None:
        sys.exit("gpsd is not installed (make apt-packages)")
    result = figures(gpsd, words.log.resolve(), words.baud, words.duration)
    tell(result, as_json=words.json)


if __name__ == "__main__":
    main()
