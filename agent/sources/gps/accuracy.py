"""What receivers say of their error, as the contract's accuracy: a radius of 95 %, metres.

Receivers give four different figures. Errors are taken as normal and independent in both
axes; where the shape of the ellipse is not known the larger bound is used, so that the
radius holds 95 % at least.

================================  ============================  =====================
figure                            what it is                    factor
================================  ============================  =====================
GST; standard deviations          1 sigma in each axis          2 (2DRMS: 95.4 to 98.2 %)
``epx``, ``epy`` of gpsd          95 % in each axis             1
``hAcc`` of a u-blox              1 sigma, a radius of 68 %     1.62
HDOP of NMEA                      no length at all              gpsd's assumed error
================================  ============================  =====================

``eph`` of gpsd is its 95 % model of the dilution for NMEA and the receiver's ``hAcc``
for u-blox' own protocol (drivers/driver_ubx.c, libgpsd_core.c). Decision 0030.
"""

from __future__ import annotations

from math import hypot, log, sqrt
from typing import Final

RADIUS_95_BY_68: Final = sqrt(log(1 - 0.95) / log(1 - 0.68))
"""Between the radii of two shares of a circular normal (Rayleigh) distribution."""

AUTONOMOUS_ERROR_M: Final = 19.0
"""95 % at a dilution of 1; gpsd's P_UERE_NO_DGPS."""

_BETTER_BY: Final = {2: 4.0, 4: 150.0, 5: 15.0}
"""By GGA quality, as gpsd: differential, RTK fixed, RTK float."""

UNKNOWN_DILUTION: Final = 99.0
"""Receivers print 99.9 or 99.99 for a dilution that they do not know."""


def from_sigmas(lat_sigma_m: float, lon_sigma_m: float) -> float:
    """Of GST's standard deviations."""
    return 2 * hypot(lat_sigma_m, lon_sigma_m)


def from_axes(east_m: float, north_m: float) -> float:
    """Of an error of 95 % in each axis."""
    return hypot(east_m, north_m)


def from_radius_68(radius_m: float) -> float:
    """Of a receiver's own radius of one sigma."""
    return radius_m * RADIUS_95_BY_68


def from_hdop(hdop: float, gga_quality: int = 1) -> float | None:
    """Of a dilution, for a kind of fix as GGA numbers it; ``None`` if it means unknown."""
    if not 0 < hdop < UNKNOWN_DILUTION:
        return None
    return hdop * AUTONOMOUS_ERROR_M / _BETTER_BY.get(gga_quality, 1.0)
