"""Distances on the Earth, and times between fixes. Pure."""

from __future__ import annotations

import math
from typing import Final

from agent.inputs import Fix

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius (IUGG)."""


def distance_m(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance (haversine), metres."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_lat = math.sin((phi2 - phi1) / 2)
    half_lon = math.sin(math.radians(lon2 - lon1) / 2)
    chord = half_lat * half_lat + math.cos(phi1) * math.cos(phi2) * half_lon * half_lon
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(chord)))


def apart_m(one: Fix, other: Fix) -> float:
    """Distance between two fixes, metres."""
    return distance_m(one.lat, one.lon, other.lat, other.lon)


def elapsed_s(before: Fix, fix: Fix) -> float:
    """By the receiver's time where both have one: arrival times bunch and stretch."""
    if before.time is not None and fix.time is not None:
        return (fix.time - before.time).total_seconds()
    return fix.received_s - before.received_s
