"""Asks the cloud for its latency now and then, beside everything else."""

from __future__ import annotations

import threading
from typing import Final

from simulator.demo.cloud import Cloud
from simulator.demo.errors import DemoError
from simulator.demo.screen import Latency

EVERY_S: Final = 2.0


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
        while not self._stopping.wait(EVERY_S):
            try:
                median_ms = self._cloud.median_latency_ms()
            except DemoError:
                # the run itself notices a cloud that has ended
                continue
            if median_ms is not None:
                self.latest = Latency(median_ms)
