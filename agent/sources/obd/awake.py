"""What is known of whether the vehicle is awake, over time. Pure; the table is ``policy``."""

from __future__ import annotations

from typing import Final

from agent.config.obd import ObdSettings
from agent.sources.obd.policy import Asking, Evidence, decide

RUNNING_S: Final = 10.0
"""How long an answer counts that says that the engine turns or the wheels do."""


class Awake:
    """``asking`` and its ``reason`` hold until the next ``observe``."""

    def __init__(self, settings: ObdSettings, now_s: float) -> None:
        self._settings = settings
        self._since_s = now_s
        self._ran_s: float | None = None
        self._traffic_s: float | None = None
        self.reason = ""
        self.asking = Asking.LISTEN

    def saw_traffic(self, now_s: float) -> None:
        """A frame came that neither is ours nor answers us."""
        self._traffic_s = now_s

    def saw_running(self, now_s: float) -> None:
        """An ECU said that the engine turns, or the wheels."""
        self._ran_s = now_s

    def needs_traffic(self, now_s: float, *, ignition: bool | None, in_trip: bool) -> bool:
        """Whether it matters now if others speak on the bus."""
        return ignition is None and not in_trip and not self._runs(now_s)

    def observe(self, now_s: float, *, ignition: bool | None, in_trip: bool) -> bool:
        """Decide again; whether the vehicle woke just now."""
        reason, asking = decide(self._evidence(now_s, ignition=ignition, in_trip=in_trip))
        woke = asking is not Asking.LISTEN and self.asking is Asking.LISTEN
        if woke:
            # a new waking has its own time for the engine to start
            self._since_s = now_s
            reason, asking = decide(self._evidence(now_s, ignition=ignition, in_trip=in_trip))
        self.reason, self.asking = reason, asking
        return woke

    def _runs(self, now_s: float) -> bool:
        return self._ran_s is not None and now_s - self._ran_s <= RUNNING_S

    def _evidence(self, now_s: float, *, ignition: bool | None, in_trip: bool) -> Evidence:
        since_s = self._since_s if self._ran_s is None else max(self._ran_s, self._since_s)
        return Evidence(
            ignition=ignition,
            in_trip=in_trip,
            running=self._runs(now_s),
            running_ago_s=now_s - since_s,
            traffic_ago_s=None if self._traffic_s is None else now_s - self._traffic_s,
            quiet_s=self._settings.quiet_s,
            engine_off_s=self._settings.engine_off_s,
        )
