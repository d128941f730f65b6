"""Small geography: geohash zones and distances on the sphere."""

from __future__ import annotations

import math
from typing import Final

from pygeohash import encode as _encode_geohash

ZONE_PRECISION: Final = 7
"""Characters; a zone is about 150 m by 150 m at the equator, narrower towards the poles."""

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius of WGS 84; distances are within 0.6 % of the ellipsoid's."""


def geohash_zone(lat: float, lon: float, precision: int = ZONE_PRECISION) -> str:
    """The geohash of a point, degrees WGS 84."""
    # The east and north edges of the world belong to the last cell.
    text: str = _encode_geohash(min(lat, _NORTH), min(lon, _EAST), precision)
    return text


_NORTH: Final = math.nextafter(90.0, 0.0)
_EAST: Final = math.nextafter(180.0, 0.0)


def distance_m(lat_a: float, lon_a: float, lat_b: float, lon_b: float) -> float:
    """Great-circle distance, metres (haversine)."""
    phi_a, phi_b = math.radians(lat_a), math.radians(lat_b)
    half_phi = (phi_b - phi_a) / 2
    half_lambda = math.radians(lon_b - lon_a) / 2
    square = (
        math.sin(half_phi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lambda) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(square)))
