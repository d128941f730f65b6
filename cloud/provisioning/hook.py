"""The pre-provisioning hook: may this board register, may this vehicle rotate.

Input and output are those of AWS IoT ("Pre-provisioning hooks", payload version
2020-04-01); the one-machine cloud calls it in the same form. The template stands in its
ARN: one whose name ends with ``_by_claim`` or ``_rotation``.

Rules, all of them here:

==========  ====================================================================================
by claim    ``SerialNumber`` is on the allow list, not blocked, and not registered yet. While
            the certificate of a registration was never used, its answer was lost, perhaps by
            a power cut: then the same board may register again, and the earlier one retires.
rotation    the certificate that asks is an ACTIVE one of the thing ``ThingName``, which is not
            blocked and is the client id.
==========  ====================================================================================

What is decided (``decide_…``) is pure; ``allow_registration`` asks the registry and writes
the registration down, so that two boards of one serial number cannot both pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloud.provisioning.ports import AllowedVehicle, Registrations
from contract.provisioning import Parameter

BY_CLAIM_SUFFIX: Final = "_by_claim"
ROTATION_SUFFIX: Final = "_rotation"
VEHICLE_TYPE: Final = "VehicleType"
"""The parameter that a template gives on to the thing."""
MAX_SHOWN: Final = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HookRequest:
    """The hook's input."""

    template: str
    client_id: str
    claim_certificate_id: str
    certificate_id: str
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> HookRequest:
        """Read the event; what is missing or no text is empty, which no rule allows."""
        parameters = event.get("parameters")
        given = parameters.items() if isinstance(parameters, Mapping) else ()
        return cls(
            template=_text(event.get("templateArn")).rpartition("/")[2],
            client_id=_text(event.get("clientId")),
            claim_certificate_id=_text(event.get("claimCertificateId")),
            certificate_id=_text(event.get("certificateId")),
            parameters={key: value for key, value in given if isinstance(value, str)},
        )

    def parameter(self, name: Parameter) -> str:
        """A parameter, or nothing."""
        return self.parameters.get(name.value, "")


@dataclass(frozen=True, slots=True)
class Decision:
    """``refusal`` says why not, or is empty; ``overrides`` replace parameters."""

    refusal: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        """Whether it goes on."""
        return not self.refusal


def decide_by_claim(
    request: HookRequest, found: AllowedVehicle | None, *, was_used: bool
) -> Decision:
    """Whether a board may register; ``was_used``: an earlier registration's certificate was."""
    serial_number = request.parameter(Parameter.SERIAL_NUMBER)
    if not serial_number:
        return Decision("no SerialNumber was given")
    if found is None:
        return Decision(f"serial number {serial_number[:MAX_SHOWN]!r} is not on the allow list")
    if found.blocked:
        return Decision(f"serial number {serial_number!r} ({found.vehicle_id}) is blocked")
    if found.certificate_id is not None and was_used:
        return Decision(f"serial number {serial_number!r} is registered as {found.vehicle_id}")
    return Decision(
        overrides={
            Parameter.THING_NAME.value: found.vehicle_id,
            VEHICLE_TYPE: found.vehicle_type,
        }
    )


def decide_rotation(request: HookRequest) -> Decision:
    """Whether a vehicle may have another certificate, if it asks with one of its own."""
    thing_name = request.parameter(Parameter.THING_NAME)
    if not thing_name:
        return Decision("no ThingName was given")
    if request.client_id != thing_name:
        return Decision(f"client id {request.client_id[:MAX_SHOWN]!r} is not {thing_name!r}")
    return Decision(overrides={Parameter.THING_NAME.value: thing_name})


def allow_registration(event: Mapping[str, Any], registrations: Registrations) -> dict[str, Any]:
    """The hook's answer: ``{"allowProvisioning": bool, "parameterOverrides": {...}}``.

    Raises:
        StoreError: the registry cannot be asked; nothing was registered.
    """
    request = HookRequest.of(event)
    decision = _decide(request, registrations)
    if decision.allowed:
        log.info("%s: %s may register", request.template, dict(decision.overrides))
    else:
        log.warning(
            "%s: client %.64r is refused: %s", request.template, request.client_id, decision.refusal
        )
    return {
        "allowProvisioning": decision.allowed,
        "parameterOverrides": dict(decision.overrides),
    }


def _decide(request: HookRequest, registrations: Registrations) -> Decision:
    if request.template.endswith(ROTATION_SUFFIX):
        thing_name = request.parameter(Parameter.THING_NAME)
        decision = decide_rotation(request)
        if decision.allowed and not registrations.rotate(
            thing_name, request.claim_certificate_id, request.certificate_id
        ):
            return Decision(f"the certificate that asks is no active one of {thing_name!r}")
        return decision
    if not request.template.endswith(BY_CLAIM_SUFFIX):
        return Decision(f"there is no rule for template {request.template[:MAX_SHOWN]!r}")
    found = registrations.find(request.parameter(Parameter.SERIAL_NUMBER))
    earlier = found.certificate_id if found is not None else None
    was_used = (
        earlier is not None
        and earlier != request.certificate_id
        and registrations.has_connected(earlier)
    )
    decision = decide_by_claim(request, found, was_used=was_used)
    if (
        decision.allowed
        and found is not None
        and not registrations.register(found, request.certificate_id)
    ):
        return Decision(f"serial number {found.serial_number!r} is being registered by another")
    return decision


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
