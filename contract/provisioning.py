"""Provisioning by claim and rotation: templates, their parameters, reserved topics.

AWS IoT Core's fleet provisioning ("Device provisioning MQTT API" in its developer guide);
the one-machine cloud answers on the same topics. Each request is answered on its topic's
``/accepted`` or ``/rejected``, to the client that asked and to nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BY_CLAIM: Final = "milepost_by_claim"
"""The template that a claim certificate may use: a board becomes a vehicle."""

ROTATION: Final = "milepost_rotation"
"""The template that a vehicle's own certificate may use: it gets a successor."""

CREATE_FROM_CSR: Final = "$aws/certificates/create-from-csr/json"
"""``{certificateSigningRequest}`` -> ``{certificateOwnershipToken, certificateId,
certificatePem}``."""

CREATE_KEYS: Final = "$aws/certificates/create/json"
"""``{}`` -> as above and ``privateKey``; Milepost's own vehicles never ask it."""

CLAIM_CLIENT_PREFIX: Final = "claim-"
"""What the client id of a connection with a claim certificate begins with. No vehicle is called
so, and so no claim takes the connection of one."""

TOKEN_LIFE_S: Final = 3_600
"""An ownership token counts for an hour; a certificate never registered goes after it."""


class Parameter(StrEnum):
    """What Milepost's templates take; a claim may carry more."""

    SERIAL_NUMBER = "SerialNumber"
    """Of the board: what the allow list goes by. Required by claim."""

    MAC_ADDRESS = "MacAddress"
    """Of the first network interface, e.g. ``dc:a6:32:01:02:03``."""

    VIN = "Vin"
    """Of the vehicle, 17 characters."""

    THING_NAME = "ThingName"
    """Of the vehicle that rotates; required by rotation."""


@dataclass(frozen=True, slots=True)
class ProvisioningTopics:
    """The topics of one provisioning template."""

    template: str

    @property
    def register(self) -> str:
        """``{certificateOwnershipToken, parameters}`` -> ``{thingName, deviceConfiguration}``."""
        return f"$aws/provisioning-templates/{self.template}/provision/json"

    def requests(self) -> tuple[str, ...]:
        """Every topic on which a client may ask."""
        return (CREATE_FROM_CSR, CREATE_KEYS, self.register)

    def answers(self) -> tuple[str, ...]:
        """Every topic on which it is answered."""
        return tuple(
            answer for topic in self.requests() for answer in (accepted(topic), rejected(topic))
        )


def accepted(request_topic: str) -> str:
    """Where a request is answered that was carried out."""
    return f"{request_topic}/accepted"


def rejected(request_topic: str) -> str:
    """Where it is answered with ``{statusCode, errorCode, errorMessage}`` otherwise."""
    return f"{request_topic}/rejected"
