"""The provisioning service as the agent sees it, and what its answers must be like.

Two adapters speak to it: :mod:`agent.provision.sdk` by AWS's own identity client, and
:mod:`agent.provision.mqtt` by the agent's paho transport, for boards that awscrt has no
wheels for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity.keys import is_of_key
from agent.provision.failures import Cause, ProvisionError, Retry
from contract.fields import VEHICLE_ID_PATTERN

_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_MOST_PEM: Final = 64 * 1024
_MOST_TEXT: Final = 300
"""Of what the service says, so that a log line stays one."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is not registered yet; ``token`` proves whose it is, for an hour."""

    certificate_id: str
    certificate_pem: str
    token: str


class ProvisioningService(Protocol):
    """One connection as the claim. Calls wait for the answer and raise ``ProvisionError``."""

    def create_from_csr(self, signing_request: str) -> Issued:
        """Have a certificate issued for a PKCS #10 request (PEM)."""
        ...

    def register(self, template: str, token: str, parameters: Mapping[str, str]) -> str:
        """Register the certificate of this token; the answer is the vehicle's name."""
        ...

    def close(self) -> None:
        """Disconnect; idempotent."""
        ...


def issued(certificate_id: Any, certificate_pem: Any, token: Any) -> Issued:
    """The answer to CreateCertificateFromCsr, of whatever types.

    Raises:
        ProvisionError: something of it is missing or no text.
    """
    for name, value in (
        ("certificateId", certificate_id),
        ("certificatePem", certificate_pem),
        ("certificateOwnershipToken", token),
    ):
        if not isinstance(value, str) or not 0 < len(value) <= _MOST_PEM:
            raise _bad(f"the new certificate came without a usable {name}")
    return Issued(certificate_id, certificate_pem, token)


def registered_name(name: Any) -> str:
    """The answer to RegisterThing.

    Raises:
        ProvisionError: the vehicle cannot be called so.
    """
    if not isinstance(name, str) or not re.fullmatch(VEHICLE_ID_PATTERN, name):
        raise _bad(f"the vehicle was registered under a name that no vehicle can have: {name!r}")
    return name


def check_issued(answer: Issued, key: ec.EllipticCurvePrivateKey) -> None:
    """See that the certificate is for this board's key.

    Raises:
        ProvisionError: it is for another, or no certificate at all.
    """
    try:
        is_ours = is_of_key(answer.certificate_pem, key)
    except ValueError as error:
        raise _bad(f"what came as the new certificate is none: {error}") from error
    if not is_ours:
        raise _bad("the new certificate is for another key than this board's")


def rejection(what: str, status: Any, code: Any, message: Any) -> ProvisionError:
    """The error for an answer on a ``/rejected`` topic; every field may be missing."""
    told = ", ".join(str(part)[:_MOST_TEXT] for part in (code, message) if part)
    number = f" ({status})" if status else ""
    error_code = str(code or "")
    is_passing = isinstance(status, int) and (status >= _SERVER_ERROR or status == _TOO_MANY)
    if "ResourceNotFound" in error_code or status == 404:
        return ProvisionError(
            Cause.WRONG_TEMPLATE,
            f"{what} was rejected{number}: {told}",
            hint=TEMPLATE_HINT,
            error_code=error_code,
        )
    return ProvisionError(
        Cause.REJECTED,
        f"{what} was rejected{number}: {told or 'without a reason'}",
        hint=""
        if is_passing
        else "See that the serial number is on the allow list and not registered or blocked:"
        " milepost-cloud fleet allow list.",
        error_code=error_code,
        retry=Retry.SOON if is_passing else None,
    )


def no_answer(what: str, timeout_s: float) -> ProvisionError:
    """The error for silence."""
    return ProvisionError(
        Cause.NO_ANSWER,
        f"no answer to {what} in {timeout_s:g} s",
        hint="Run it again: it goes on where it stopped.",
    )


def may_not(topic: str) -> ProvisionError:
    """The error for a request whose answers the broker does not let the claim subscribe to."""
    return ProvisionError(
        Cause.WRONG_TEMPLATE,
        f"the broker does not let the claim certificate ask on {topic}",
        hint=TEMPLATE_HINT,
    )


def _bad(message: str) -> ProvisionError:
    return ProvisionError(
        Cause.BAD_ANSWER, message, hint="Look into the provisioning service's log."
    )


TEMPLATE_HINT: Final = (
    "Check provision.template_name, and that the claim certificate was made for it."
)
