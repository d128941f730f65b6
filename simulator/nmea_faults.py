"""What can be wrong with the sky, as a receiver's sentences say it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulator.errors import NmeaError
from simulator.gps_faults import Sky
from simulator.nmea_fields import position
from simulator.receiver_log import fields_of, with_fields

Fields = list[bytes]

_PLACE_AT: Final = {"RMC": 3, "GGA": 2, "GNS": 2, "GLL": 1}
"""Where latitude, side, longitude and side stand."""

_MINUTE_DECIMALS: Final = 5
"""2 cm, as the synthesiser writes them."""


def seen_line(line: bytes, sky: Sky) -> bytes:
    """A line as the receiver would have said it under this sky; what is no sentence stays."""
    kind, fields = fields_of(line)
    if not kind:
        return line
    if sky.lost:
        hide = _WITHOUT_FIX.get(kind)
        if hide is None:
            return line
        hide(fields)
    elif sky.jump_m:
        at = _PLACE_AT.get(kind)
        if at is None or not _moved(fields, at, sky):
            return line
    else:
        return line
    return with_fields(line, fields)


def _blank(fields: Fields, *where: slice) -> None:
    for part in where:
        fields[part] = [b""] * len(fields[part])


def _set(fields: Fields, at: int, value: bytes) -> None:
    if at < len(fields):
        fields[at] = value


def _rmc(fields: Fields) -> None:
    _set(fields, 2, b"V")
    _set(fields, 12, b"N")
    _blank(fields, slice(3, 9))


def _gga(fields: Fields) -> None:
    _blank(fields, slice(2, 6), slice(7, 10), slice(11, 12))
    _set(fields, 6, b"0")


def _gns(fields: Fields) -> None:
    _blank(fields, slice(2, 6), slice(7, 11))
    _set(fields, 6, b"N")


def _gll(fields: Fields) -> None:
    _blank(fields, slice(1, 5))
    _set(fields, 6, b"V")
    _set(fields, 7, b"N")


def _gsa(fields: Fields) -> None:
    _set(fields, 2, b"1")
    _blank(fields, slice(3, 18))


def _vtg(fields: Fields) -> None:
    _blank(fields, *(slice(at, at + 1) for at in (1, 3, 5, 7)))
    _set(fields, 9, b"N")


def _gst(fields: Fields) -> None:
    _blank(fields, slice(2, 9))


_WITHOUT_FIX: Final[dict[str, Callable[[Fields], None]]] = {
    "RMC": _rmc,
    "GGA": _gga,
    "GNS": _gns,
    "GLL": _gll,
    "GSA": _gsa,
    "VTG": _vtg,
    "GST": _gst,
}


def _moved(fields: Fields, at: int, sky: Sky) -> bool:
    """Move the position in its fields; whether there was one."""
    try:
        lat, lon = position([field.decode("latin-1") for field in fields[at : at + 4]])
    except NmeaError:
        return False
    if lat is None or lon is None:
        return False
    lat, lon = sky.place(lat, lon)
    fields[at : at + 4] = [
        _angle(lat, 2),
        b"N" if lat >= 0 else b"S",
        _angle(lon, 3),
        b"E" if lon >= 0 else b"W",
    ]
    return True


def _angle(degrees: float, digits: int) -> bytes:
    scale = 10**_MINUTE_DECIMALS
    whole, rest = divmod(round(abs(degrees) * 60 * scale), 60 * scale)
    minutes, fraction = divmod(rest, scale)
    return f"{whole:0{digits}d}{minutes:02d}.{fraction:0{_MINUTE_DECIMALS}d}".encode()
