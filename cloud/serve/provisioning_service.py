"""The fleet provisioning service: requests on reserved topics to the registry and back.

As on AWS: CreateCertificateFromCsr and CreateKeysAndCertificate give a certificate that is
PENDING_ACTIVATION and a token that proves for an hour whose it is; RegisterThing spends the
token, asks the pre-provisioning hook and ties the certificate to a vehicle, ACTIVE. The
same request again, while the certificate was never used, gets the same answer: a client
that lost the first one loses nothing. A token counts for the certificate it was asked
with, whatever connection it comes over.

Unlike AWS, CreateKeysAndCertificate makes an EC key (P-256), and CBOR is not spoken.
Clients speak MQTT 3.1.1: both identity clients of ``awsiot.iotidentity`` do on an
``awscrt.mqtt.Connection``. The broker takes no MQTT 5.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloud.clock import Clock
from cloud.errors import CsrError, StoreError
from cloud.pki import Authority
from cloud.pki.authority import PROVISIONED_NAME
from cloud.provisioning.hook import VEHICLE_TYPE, allow_registration
from cloud.provisioning.ports import Certificate, PrincipalKind
from cloud.provisioning.requests import (
    ProvisioningError,
    Registration,
    access_denied,
    internal_failure,
    invalid_csr,
    invalid_token,
    parse_csr,
    parse_keys,
    parse_registration,
    throttled,
)
from cloud.serve.device_services import Client
from cloud.stores.announcements import Announcement
from cloud.stores.requested_certificates import Ownership
from cloud.stores.sqlite_registry import SqliteRegistry
from contract.provisioning import (
    BY_CLAIM,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    Parameter,
    ProvisioningTopics,
    accepted,
    rejected,
)

TEMPLATE_OF: Final = {ProvisioningTopics(name).register: name for name in (BY_CLAIM, ROTATION)}
TEMPLATE_ARN: Final = "arn:aws:iot:local:000000000000:provisioningtemplate/{}"
TOKEN_BYTES: Final = 32

log = logging.getLogger(__name__)


class ProvisioningService:
    """A ``PrivateService``; which topic a client may use is the policy's to say."""

    def __init__(self, authority: Authority, registry: SqliteRegistry, clock: Clock) -> None:
        self._authority = authority
        self._registry = registry
        self._clock = clock

    def takes(self, topic: str) -> bool:
        """See ``PrivateService``."""
        return topic in {CREATE_FROM_CSR, CREATE_KEYS} or topic in TEMPLATE_OF

    def answer(self, client: Client, topic: str, payload: bytes) -> Sequence[Announcement]:
        """See ``PrivateService``."""
        try:
            return [_announce(accepted(topic), self._carry_out(client, topic, payload))]
        except ProvisioningError as error:
            log.warning("%s on %s is rejected: %s", _name(client), topic, error)
            return [_announce(rejected(topic), error.document())]
        except StoreError as error:
            log.error("%s on %s: %s", _name(client), topic, error)  # noqa: TRY400  the reason is in the message
            return [_announce(rejected(topic), internal_failure().document())]

    def refuse(self, client: Client, topic: str) -> Sequence[Announcement]:
        """See ``PrivateService``."""
        log.warning("%s asks too much at once on %s", _name(client), topic)
        error = throttled("Too many requests are in progress.")
        return [_announce(rejected(topic), error.document())]

    def _carry_out(self, client: Client, topic: str, payload: bytes) -> dict[str, Any]:
        if topic == CREATE_FROM_CSR:
            return self._create_from_csr(client, parse_csr(payload))
        if topic == CREATE_KEYS:
            parse_keys(payload)
            return self._create_keys(client)
        return self._register(client, TEMPLATE_OF[topic], parse_registration(payload))

    def _create_from_csr(self, client: Client, csr: str) -> dict[str, Any]:
        is_vehicle = client.principal.kind is PrincipalKind.VEHICLE
        name = client.principal.name if is_vehicle else PROVISIONED_NAME
        try:
            pem = self._authority.sign_request(csr, name, self._clock.utc())
        except CsrError as error:
            raise invalid_csr(str(error)) from error
        return self._answer(client, pem)

    def _create_keys(self, client: Client) -> dict[str, Any]:
        made = self._authority.issue_provisioned(self._clock.utc())
        answer = self._answer(client, made.certificate_pem)
        return {**answer, "privateKey": made.key_pem.decode()}

    def _answer(self, client: Client, pem: bytes) -> dict[str, Any]:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        made: Certificate | None = self._registry.requested.add(pem, token, client.principal)
        if made is None:
            raise throttled("Too many certificates were asked for and not registered.")
        return {
            "certificateOwnershipToken": token,
            "certificateId": made.certificate_id,
            "certificatePem": pem.decode(),
        }

    def _register(self, client: Client, template: str, asked: Registration) -> dict[str, Any]:
        owned = self._registry.requested.owned_by(asked.token, client.principal)
        if owned is None:
            raise invalid_token()
        registration = {"template": template, "parameters": dict(asked.parameters)}
        if owned.registration is not None:
            if owned.registration != registration or owned.thing is None:
                raise invalid_token()
            return _registered(owned.thing)
        answer = allow_registration(_hook_event(client, template, owned, asked), self._registry)
        if not answer["allowProvisioning"]:
            raise access_denied("The pre-provisioning hook does not allow this.")
        parameters = {**asked.parameters, **answer["parameterOverrides"]}
        vehicle_id = parameters[Parameter.THING_NAME.value]
        by_claim = template == BY_CLAIM
        if not self._registry.requested.activate(
            owned,
            vehicle_id,
            registration,
            vehicle_type=parameters.get(VEHICLE_TYPE) if by_claim else None,
            serial_number=parameters.get(Parameter.SERIAL_NUMBER.value) if by_claim else None,
        ):
            raise invalid_token()
        log.info("%s got certificate %s by %s", vehicle_id, owned.certificate_id, template)
        return _registered(vehicle_id)


def _hook_event(
    client: Client, template: str, owned: Ownership, asked: Registration
) -> dict[str, Any]:
    return {
        "claimCertificateId": client.principal.certificate_id,
        "certificateId": owned.certificate_id,
        "certificatePem": owned.pem,
        "templateArn": TEMPLATE_ARN.format(template),
        "clientId": client.client_id,
        "parameters": dict(asked.parameters),
    }


def _registered(vehicle_id: str) -> dict[str, Any]:
    return {"deviceConfiguration": {}, "thingName": vehicle_id}


def _announce(topic: str, document: Mapping[str, Any]) -> Announcement:
    return Announcement(topic, json.dumps(document).encode())


def _name(client: Client) -> str:
    return f"{client.client_id!r} ({client.principal.kind.value} {client.principal.name})"
