"""What is asked for, judged: section by section, by the rules of the config file. Pure.

A section is taken as a whole or refused as a whole with the reason; what was in force of
it before stays then. What is asked for lies over the config file's values key by key, so
a key that is no longer asked for returns to the file's value.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.config.live import LEAST, LIVE, LIVE_SECTIONS, is_part_of_live
from agent.config.load import AgentSettings, with_section
from agent.errors import ConfigError
from contract.shadow import MAX_SHADOW_BYTES

Json = dict[str, Any]

WHOLE: Final = "desired"
"""Stands for a section where the whole document is refused."""

_MAX_REFUSED: Final = 8
_MAX_LEVELS: Final = 16
_MAX_NAME: Final = 64
_MAX_REASON: Final = 240
"""Reasons are reported back, and a shadow holds 8 KB."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The settings in force, what of them is the operator's, and what was refused and why."""

    settings: AgentSettings
    accepted: dict[str, Json]
    refused: dict[str, str]


def readable(desired: object) -> Json | str:
    """What is asked for, if it can be a shadow's; else the reason why it is refused whole."""
    if isinstance(desired, str):
        return desired[:_MAX_REASON]
    if not isinstance(desired, dict):
        return "is no object"
    layer: list[Any] = [desired]
    for _ in range(_MAX_LEVELS):
        layer = [inner for value in layer for inner in _inside(value)]
    if layer:
        return f"is nested deeper than {_MAX_LEVELS} levels"
    try:
        size = len(json.dumps(desired, allow_nan=False).encode())
    except ValueError:
        return "holds numbers that are none"
    if size > 2 * MAX_SHADOW_BYTES:  # escapes make it longer than it was
        return f"{size} bytes; a shadow has {MAX_SHADOW_BYTES} at most"
    return desired


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def judge(file: AgentSettings, desired: object, before: Mapping[str, Json]) -> Verdict:
    """Lay what is asked for over the config file's settings.

    ``before`` is what was accepted until now, by section. Anything may be asked for; what
    is not ``readable`` is refused as a whole.
    """
    settings, accepted, refused = file, dict[str, Json](), dict[str, str]()
    desired = readable(desired)
    if isinstance(desired, str):
        refused[WHOLE] = desired
        desired = dict(before)
    for section, asked in desired.items():
        try:
            settings, accepted[section] = _changed(settings, section, asked), asked
        except ConfigError as error:
            refused[section[:_MAX_NAME]] = _short(error)
            if section in before:
                try:
                    settings = _changed(settings, section, before[section])
                except ConfigError:
                    continue  # the config file has changed since: its values count
                accepted[section] = before[section]
    return Verdict(settings, accepted, _few(refused))


def _changed(settings: AgentSettings, section: str, asked: object) -> AgentSettings:
    """The settings with one section as asked.

    Raises:
        ConfigError: names key and value.
    """
    if section not in LIVE_SECTIONS:
        raise ConfigError(_not_live(section, AgentSettings.model_fields, LIVE_SECTIONS))
    if not isinstance(asked, dict):
        raise ConfigError(f"{section} = {_shown(asked)}: is no object with keys")
    known = getattr(settings, section).model_dump()
    return with_section(settings, section, _laid_over(known, asked, section))


def _laid_over(known: Json, asked: Json, path: str) -> Json:
    merged = dict(known)
    for name, value in asked.items():
        key = f"{path}.{name}"
        if key in LIVE:
            least = LEAST.get(key)
            if least is not None and isinstance(value, int | float) and value < least:
                raise ConfigError(f"{key} = {_shown(value)}: from afar at least {least:g}")
            merged[name] = value
        elif is_part_of_live(key):
            if not isinstance(value, dict):
                raise ConfigError(f"{key} = {_shown(value)}: is no object with keys")
            merged[name] = _laid_over(known[name], value, key)
        else:
            raise ConfigError(_not_live(key, known, LIVE))
    return merged


def _not_live(key: str, siblings: Mapping[str, Any], live: frozenset[str]) -> str:
    shown = key[:_MAX_NAME]
    if key.rpartition(".")[2] in siblings:
        return f"{shown}: cannot be changed from afar; edit the vehicle's config file"
    near = difflib.get_close_matches(shown, live, n=1)
    return f"{shown}: unknown key" + (f'; did you mean "{near[0]}"?' if near else "")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _short(error: ConfigError) -> str:
    first, *more = error.message.splitlines()
    text = first + (f" (and {len(more)} more)" if more else "")
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "..."


def _few(refused: dict[str, str]) -> dict[str, str]:
    if len(refused) <= _MAX_REFUSED:
        return refused
    kept = dict(list(refused.items())[: _MAX_REFUSED - 1])
    return {**kept, "...": f"{len(refused) - len(kept)} more"}
