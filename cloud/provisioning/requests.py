"""What a client sends to the provisioning service, and how it is refused.

Payloads as in "Device provisioning MQTT API" of the AWS IoT developer guide. Whatever bytes
come, parsing gives a request or a ``ProvisioningError``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

MAX_PARAMETERS: Final = 32
MAX_PARAMETER_NAME: Final = 128
MAX_PARAMETER_VALUE: Final = 1_024
MAX_TOKEN: Final = 1_024
"""Characters, as the three before."""


class ProvisioningError(Exception):
    """A request is refused; ``document`` is what the client is told."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message

    def document(self) -> dict[str, Any]:
        """The payload of a ``/rejected`` topic."""
        return {
            "statusCode": int(self.status),
            "errorCode": self.code,
            "errorMessage": self.message,
        }


def invalid_payload(message: str) -> ProvisioningError:
    """It cannot be read."""
    return ProvisioningError(HTTPStatus.BAD_REQUEST, "InvalidPayload", message)


def invalid_csr(message: str) -> ProvisioningError:
    """The certificate signing request is not accepted."""
    return ProvisioningError(
        HTTPStatus.BAD_REQUEST, "InvalidCertificateSigningRequest", f"The request {message}."
    )


def invalid_token() -> ProvisioningError:
    """The ownership token is another client's, or expired, or used."""
    return ProvisioningError(
        HTTPStatus.BAD_REQUEST,
        "InvalidCertificateOwnershipToken",
        "The certificate ownership token is not valid. Ask for a new certificate.",
    )


def access_denied(message: str) -> ProvisioningError:
    """The pre-provisioning hook says no; why is the operator's to know."""
    return ProvisioningError(HTTPStatus.FORBIDDEN, "AccessDenied", message)


def throttled(message: str) -> ProvisioningError:
    """Too many."""
    return ProvisioningError(HTTPStatus.TOO_MANY_REQUESTS, "ThrottlingException", message)


def internal_failure() -> ProvisioningError:
    """Ours; the same request may succeed later."""
    return ProvisioningError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "InternalFailure", "Internal service failure."
    )


@dataclass(frozen=True, slots=True)
class Registration:
    """RegisterThing."""

    token: str
    parameters: Mapping[str, str]


def parse_csr(payload: bytes) -> str:
    """The PEM of a CreateCertificateFromCsr request.

    Raises:
        ProvisioningError: it is none.
    """
    return _text(_object(payload), "certificateSigningRequest")


def parse_keys(payload: bytes) -> None:
    """A CreateKeysAndCertificate request, which says nothing.

    Raises:
        ProvisioningError: it is no JSON object.
    """
    _object(payload or b"{}")


def parse_registration(payload: bytes) -> Registration:
    """A RegisterThing request.

    Raises:
        ProvisioningError: it is none.
    """
    document = _object(payload)
    token = _text(document, "certificateOwnershipToken")
    if len(token) > MAX_TOKEN:
        raise invalid_payload(f"certificateOwnershipToken has more than {MAX_TOKEN} characters.")
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict) or len(parameters) > MAX_PARAMETERS:
        raise invalid_payload(f"parameters is no object of at most {MAX_PARAMETERS} texts.")
    for name, value in parameters.items():
        if not isinstance(value, str):
            raise invalid_payload(f"parameters.{name[:MAX_PARAMETER_NAME]} is no text.")
        if len(name) > MAX_PARAMETER_NAME or len(value) > MAX_PARAMETER_VALUE:
            raise invalid_payload(
                f"A parameter's name has at most {MAX_PARAMETER_NAME} characters, "
                f"its value {MAX_PARAMETER_VALUE}."
            )
    return Registration(token, parameters)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise invalid_payload("The payload is no JSON.") from None
    if not isinstance(document, dict):
        raise invalid_payload("The payload is no JSON object.")
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise invalid_payload(f"{name} is missing or no text.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid_payload(f"{name} is no Unicode text.") from None
    return value
