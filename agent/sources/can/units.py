"""Does a signal's unit fit the contract's field: a pure table of the units that DBCs write.

A unit that nobody knows passes, as does none: public DBC files leave most of them empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.config import SignalSettings
from agent.config.can import FIELD_UNITS
from agent.errors import ConfigError
from agent.sources.dbc.table import SignalTable


class Unit(NamedTuple):
    """``value * factor + offset`` is in the quantity's own unit."""

    quantity: str
    factor: float = 1.0
    offset: float = 0.0


_WRITTEN: Final[dict[Unit, str]] = {
    Unit("speed"): "km/h kph kmh kmph km/hr kilometerperhour",
    Unit("speed", 1.609344): "mph mi/h milesperhour",
    Unit("speed", 3.6): "m/s mps meterpersecond",
    Unit("speed", 1.852): "kn kt kts knot knots",
    Unit("speed", 0.036): "cm/s",
    Unit("speed", 1.09728): "ft/s fps",
    Unit("voltage"): "v volt volts voltage",
    Unit("voltage", 1e-3): "mv millivolt millivolts",
    Unit("voltage", 1e3): "kv",
    Unit("current"): "a amp amps ampere amperes",
    Unit("current", 1e-3): "ma milliamp milliamps",
    Unit("temperature"): "°c degc degreec degreesc c celsius ℃ degcelsius ¡c",
    Unit("temperature", 5 / 9, -160 / 9): "°f degf f fahrenheit ℉",
    Unit("temperature", 1.0, -273.15): "k °k kelvin degk",
    Unit("share"): "% percent pct percentage",
    Unit("share", 0.1): "‰ permille",
    Unit("angle"): "° deg degree degrees",
    Unit("angle", 180 / math.pi): "rad radian radians",
    Unit("angle", 0.18 / math.pi): "mrad",
    Unit("length"): "m meter meters metre metres",
    Unit("length", 1e3): "km kilometer kilometers kilometre kilometres",
    Unit("length", 1609.344): "mi mile miles",
    Unit("length", 0.3048): "ft feet foot",
    Unit("length", 0.01): "cm",
    Unit("length", 1e-3): "mm",
    Unit("acceleration"): "m/s² m/s2 m/s^2 m/s/s mps2 m/ss",
    Unit("acceleration", 9.80665): "g gravity",
    Unit("acceleration", 9.80665e-3): "mg",
    Unit("time"): "s sec second seconds ms msec min h hour hours",
    Unit("pressure"): "bar mbar kpa hpa pa mpa psi",
    Unit("rotation"): "rpm 1/min u/min r/min rev/min deg/s °/s rad/s",
    Unit("torque"): "nm n·m",
    Unit("power"): "w kw hp ps",
    Unit("energy"): "wh kwh j kj",
    Unit("charge"): "ah mah",
    Unit("volume"): "l ml l/h l/100km gal",
    Unit("frequency"): "hz khz",
}

_UNITS: Final = {name: unit for unit, names in _WRITTEN.items() for name in names.split()}

_SAME: Final = 0.01
"""Scales that differ by less are taken for the same, rounded."""


def unit_of(text: str) -> Unit | None:
    """The unit that a DBC writes so; ``None`` if it is none that is known."""
    return _UNITS.get(text.casefold().replace(" ", "").replace("_", "").rstrip("."))


@dataclass(frozen=True, slots=True)
class Doubt:
    """A signal that is mapped to a field of another unit."""

    text: str
    advice: str
    is_certain: bool
    """Whether nothing in the config speaks for it: no scale, no offset, no unit."""


def doubt(field: str, entry: SignalSettings, table: SignalTable) -> Doubt | None:
    """What is wrong with the unit of one mapping, if anything is."""
    wanted = unit_of(FIELD_UNITS.get(field, ""))
    has = unit_of(table.unit if entry.unit is None else entry.unit)
    if wanted is None or has is None:
        return None
    written = table.unit if entry.unit is None else entry.unit
    text = f"{field} takes {FIELD_UNITS[field]}, and {table.message}.{table.name} is in {written}"
    is_plain = entry.scale == 1 and entry.offset == 0
    if wanted.quantity != has.quantity:
        advice = f'map another signal, or write unit = "{FIELD_UNITS[field]}" if the DBC is wrong'
        return Doubt(text, advice, is_certain=is_plain)
    scale = has.factor / wanted.factor
    offset = (has.offset - wanted.offset) / wanted.factor
    # a negative scale turns the sign, a small offset is a sensor's correction
    fits = math.isclose(abs(entry.scale), scale, rel_tol=_SAME)
    if fits and (offset == 0 or math.isclose(entry.offset, offset, rel_tol=_SAME)):
        return None
    advice = f"write scale = {scale:.7g}" + (f", offset = {offset:.7g}" if offset else "")
    return Doubt(text, advice, is_certain=is_plain)


def refuse_or_tell(field: str, entry: SignalSettings, table: SignalTable) -> str | None:
    """A warning for the log, or ``None``.

    Raises:
        ConfigError: the unit is another one and nothing in the config says it is meant so.
    """
    found = doubt(field, entry, table)
    if found is None:
        return None
    if found.is_certain:
        raise ConfigError(
            f"can.signals: {found.text}", hint=f"{found.advice[:1].upper()}{found.advice[1:]}."
        )
    return f"can.signals: {found.text}, scale = {entry.scale:g}: {found.advice}"
