"""Asks the cloud for its latency now and then, beside everything else."""

from __future__ import annotations

import threading
from typing import Final

from simulator.clock import monotonic_s
from simulator.demo.cloud import Cloud
from simulator.demo.errors import DemoError
from simulator.demo.screen import Latency

EVERY_S: Final = 5.0
LARGEST_SHARE: Final = 0.1
"""Of the time, what asking may take: a report reads the whole history."""


class LatencyWatch:
    """``latest`` is None until the cloud has measured one. ``stop`` is idempotent."""

    def __init__(self, cloud: Cloud) -> None:
        self.latest: Latency | None = None
        self._cloud = cloud
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-latency", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; an answer that is under way is waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause_s = EVERY_S
        while not self._stopping.wait(pause_s):
            begun_s = monotonic_s()
            try:
                latency = self._cloud.report()["latency_ms"]
            except DemoError:
                # the run itself notices a cloud that has ended
                continue
            if latency["p50"] is not None:
                self.latest = Latency(latency["p50"])
            pause_s = max(EVERY_S, (monotonic_s() - begun_s) / LARGEST_SHARE)
