"""A line of the allow list as an operator writes it, checked."""

from __future__ import annotations

import re
from typing import Final

from cloud.errors import ConfigError
from cloud.pki import check_vehicle_id
from cloud.provisioning.ports import AllowedVehicle

SERIAL_NUMBER_PATTERN: Final = r"^[A-Za-z0-9:_./-]{1,128}$"
VEHICLE_TYPE_PATTERN: Final = r"^[A-Za-z0-9:_./-]{0,128}$"
"""As an attribute of an AWS IoT thing may be."""


def allowed_vehicle(serial_number: str, vehicle_id: str, vehicle_type: str = "") -> AllowedVehicle:
    """A line of the allow list.

    Raises:
        ConfigError: a value is not possible; it is named.
    """
    if not re.fullmatch(SERIAL_NUMBER_PATTERN, serial_number):
        raise ConfigError(
            f"{serial_number!r} cannot be a serial number",
            hint="as the board tells it: letters, digits, ':', '_', '.', '/' and '-'",
        )
    check_vehicle_id(vehicle_id)
    if not re.fullmatch(VEHICLE_TYPE_PATTERN, vehicle_type):
        raise ConfigError(
            f"{vehicle_type!r} cannot be a vehicle type",
            hint="use letters, digits, ':', '_', '.', '/' and '-'",
        )
    return AllowedVehicle(serial_number, vehicle_id, vehicle_type)
