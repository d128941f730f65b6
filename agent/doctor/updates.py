"""Software updates: is there an updater, does it trust a key, and how did the last one end?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.programs import ask
from agent.doctor.subject import Subject

PATH_UNIT: Final = "milepost-update.path"
KEYS: Final = Path("/etc/milepost/release-keys")
RESULT: Final = Path("/var/lib/milepost-update/result.json")

BY_HAND: Final = Kind(
    "updates-by-hand",
    Severity.INFO,
    "not installed as a package: a new version is installed by hand",
)
OFF: Final = Kind(
    "updates-off",
    Severity.WARNING,
    "updates are fetched and not installed: {unit} is {state}",
    "sudo systemctl enable --now {unit}",
)
NO_KEY: Final = Kind(
    "updates-no-key",
    Severity.INFO,
    "updates are refused: there is no release key in {folder}",
    advice="Put the fleet's public.pem there, see docs/update.md.",
)
NOT_KEPT: Final = Kind(
    "updates-not-kept",
    Severity.WARNING,
    "the last update, to {version}, was not kept: {reason}",
    "journalctl -u milepost-update -u milepost-update-resume -n 50 --no-pager",
)
GOOD: Final = Kind("updates-good", Severity.OK, "taken where one of {keys} release key(s) signed")


@dataclass(frozen=True, slots=True)
class Facts:
    """``state`` is systemd's of the path unit, empty where there is no such unit."""

    state: str = ""
    keys: int = 0
    last: dict[str, Any] | None = None


def gather(subject: Subject) -> Facts:
    """What systemd and the updater's folders say."""
    if not subject.unit:
        return Facts()
    told = ask("systemctl", "show", "--property=LoadState,ActiveState", PATH_UNIT)
    unit = dict(line.partition("=")[::2] for line in (told.output if told else "").splitlines())
    return Facts(
        state=unit.get("ActiveState", "") if unit.get("LoadState") == "loaded" else "",
        keys=len(list(KEYS.glob("*.pem"))),
        last=_last(),
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings on updates."""
    if not facts.state:
        yield BY_HAND()
        return
    if facts.state != "active":
        yield OFF(unit=PATH_UNIT, state=facts.state)
    if not facts.keys:
        yield NO_KEY(folder=KEYS)
    if facts.last is not None and not facts.last.get("succeeded"):
        yield NOT_KEPT(
            version=facts.last.get("to_version") or "an unknown version",
            reason=facts.last.get("reason") or "no reason was left",
        )
    elif facts.state == "active" and facts.keys:
        yield GOOD(keys=facts.keys)


def _last() -> dict[str, Any] | None:
    try:
        told = json.loads(RESULT.read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
