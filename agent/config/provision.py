"""The section of the config file that provisioning reads; see docs/provisioning.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from agent.config.sections import FilePath, Section
from contract.provisioning import BY_CLAIM

_ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_:]{0,127}$")]
_ParameterValue = Annotated[str, StringConstraints(min_length=1, max_length=800)]
CLAIM_FOLDER: Final = Path("/etc/milepost/claim")
"""certificate.pem and key.pem, where neither config nor systemd names others."""

VIN_PATTERN: Final = r"^$|^[A-HJ-NPR-Z0-9]{17}$"
"""ISO 3779: 17 characters, never I, O or Q."""


class ProvisionSettings(Section):
    """``[provision]``: how a bare board becomes a vehicle of the fleet."""

    template_name: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,36}$")] = Field(
        default=BY_CLAIM,
        description=f'Provisioning template to register with. Default "{BY_CLAIM}".',
    )
    claim_certificate_file: FilePath | None = Field(
        default=None,
        description="PEM file with the claim certificate, the same on every board of a lot. "
        "Default: systemd's credential claim-certificate where the service is given one, else "
        "/etc/milepost/claim/certificate.pem.",
    )
    claim_key_file: FilePath | None = Field(
        default=None,
        description="PEM file with its private key, mode 0600. Default: systemd's credential "
        "claim-key, else /etc/milepost/claim/key.pem.",
    )
    vin: Annotated[str, Field(pattern=VIN_PATTERN)] = Field(
        default="",
        description="The vehicle's identification number, sent along if it is given, 17 "
        'characters. Default "".',
    )
    parameters: dict[_ParameterName, _ParameterValue] = Field(
        default={},
        description="Further parameters of the template, or others in place of those that the "
        'board tells (SerialNumber, MacAddress, Vin), e.g. { Depot = "north" }. Default none.',
    )
    answer_timeout_s: Annotated[float, Field(ge=1, le=600)] = Field(
        default=60,
        description="Seconds to wait for the connection, and for each answer of the service. "
        "Default 60.",
    )
    clock_wait_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=120,
        description="Seconds to wait for somebody to set the board's clock (chrony, gpsd) if it "
        "stands before the claim certificate's first day. Default 120.",
    )
