"""The settings in force: the config file's, and over them what the shadow asks for.

Precedence: a key that the shadow asks for has the shadow's value, any other the file's,
also when the file is changed later. ``[shadow] mode = "off"`` leaves the file alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.config.live import live_values
from agent.config.load import AgentSettings
from agent.shadow import record as records
from agent.shadow.desired import Json, Verdict, judge, readable
from agent.shadow.record import Record

_log = logging.getLogger("agent.shadow")

Apply = Callable[[AgentSettings], None]


class RemoteSettings:
    """``desire`` is called by one thread; the others may be called by any."""

    def __init__(self, file: AgentSettings, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._lock = threading.Lock()
        self._apply: Apply = lambda _: None
        self._record = records.load(folder)
        self._verdict = self._judged(self._record.desired, self._record.accepted)
        if self._record.version:
            _log.info("settings of the shadow's version %d: %s", self._record.version, self._told())

    @property
    def settings(self) -> AgentSettings:
        """What is in force."""
        return self._verdict.settings

    def on_change(self, apply: Apply) -> None:
        """Give the receiver of changed settings, before the first ``desire``."""
        self._apply = apply

    def desire(self, desired: object, version: int) -> None:
        """The shadow asks for this; apply what is right and remember it.

        ``version`` is the shadow's. The same again changes nothing, at any version: a
        report raises the version too.
        """
        desired = readable(desired)
        if desired == self._record.desired:
            return
        verdict = self._judged(desired, self._verdict.accepted)
        changed = verdict.settings != self._verdict.settings
        record = Record(desired, version, verdict.accepted)
        with self._lock:
            self._verdict, self._record = verdict, record
        _log.info("the shadow's version %d: %s", version, self._told())
        for reason in verdict.refused.values():
            _log.warning("refused, the old settings stay: %s", reason)
        if changed:
            self._apply(verdict.settings)
        try:
            records.save(self._folder, record)
        except (OSError, ValueError) as error:
            _log.warning("the settings are in force, but will not survive a restart: %s", error)

    def report(self) -> Json:
        """What the vehicle says in ``reported``: every live key, and what was refused."""
        with self._lock:
            verdict, record = self._verdict, self._record
        report: Json = {**live_values(verdict.settings)}
        # a number as it was asked for: whether 5 and 5.0 differ is up to the service
        report = _laid_over(report, verdict.accepted)
        if verdict.refused:
            report["refused"] = verdict.refused
        if record.version:
            report["desired_version"] = record.version
        return report

    def account(self) -> dict[str, Any]:
        """For the agent's account."""
        with self._lock:
            verdict, record = self._verdict, self._record
        return {
            "version": record.version,
            "changed": _laid_over({}, verdict.accepted),
            "refused": dict(verdict.refused),
        }

    def _judged(self, desired: object, before: dict[str, Json]) -> Verdict:
        return judge(self._file, desired, before)

    def _told(self) -> str:
        verdict = self._verdict
        keys = [
            f"{key} = {value} (the file says {_flat(live_values(self._file)).get(key)})"
            for key, value in _flat(verdict.accepted).items()
        ]
        return ", ".join(keys) or "all as in the config file"


def _laid_over(known: Json, more: Json) -> Json:
    merged = dict(known)
    for key, value in more.items():
        inner = merged.get(key)
        if isinstance(value, dict):
            value = _laid_over(inner if isinstance(inner, dict) else {}, value)  # noqa: PLW2901
        merged[key] = value
    return merged


def _flat(tree: Json, prefix: str = "") -> Json:
    found: Json = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
