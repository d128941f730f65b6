"""The operator's side of a fleet on AWS: AWS IoT's things and certificates, and our table.

Blocking makes a vehicle's certificates INACTIVE, which ends its connection within minutes;
what is retired has no thing any more, so unblocking finds exactly those that were blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud.clock import Clock
from cloud.errors import FleetError
from cloud.pki import Credentials
from cloud.provisioning.ports import (
    AllowedVehicle,
    Certificate,
    CertificateStatus,
    ClaimCredentials,
    FleetVehicle,
)
from cloud.stores.aws_errors import wrapped
from cloud.stores.aws_root_ca import root_ca
from cloud.stores.aws_stack import CONFIG, stack_outputs
from cloud.stores.dynamodb_allow_list import DynamoAllowList
from cloud.stores.dynamodb_registrations import DynamoRegistrations
from cloud.stores.iot_certificates import GONE, IotCertificate, IotCertificates

AT_ONCE: Final = 4
"""Vehicles that are looked at at the same time; AWS IoT answers about 10 such calls a second."""
TELL_EVERY_S: Final = 2.0

_IOT: Final = "AWS IoT"
_OUTPUTS: Final = (
    "RegistrationsTableName",
    "VehiclesTableName",
    "VehiclePolicyName",
    "ClaimPolicyName",
)


@dataclass(frozen=True, slots=True)
class Policies:
    """The names of the stack's IoT policies."""

    vehicle: str
    claim: str


class AwsFleet:
    """``FleetControl`` on AWS."""

    def __init__(
        self,
        iot: Any,
        allow_list: DynamoAllowList,
        policies: Policies,
        clock: Clock,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._iot = iot
        self._list = allow_list
        self._policies = policies
        self._clock = clock
        self._tell = tell
        self._certificates = IotCertificates(iot)

    # --- claims ----------------------------------------------------------------------

    def create_claim(self, name: str, days: int | None) -> ClaimCredentials:
        """See ``FleetControl``; the key is made here and never sent."""
        if days is not None:
            raise FleetError(
                f"a claim certificate of {days} days cannot be had from AWS IoT",
                hint="Its certificates are valid to the end of 2049: leave --days out, and revoke "
                "the claim when the boards are provisioned.",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Milepost claim")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        with wrapped(_IOT):
            made = self._iot.create_certificate_from_csr(certificateSigningRequest=csr.decode())
        certificate_id = made["certificateId"]
        self._list.add_claim(certificate_id, name)  # before it counts, so that it can be revoked
        with wrapped(_IOT):
            self._iot.attach_policy(policyName=self._policies.claim, target=made["certificateArn"])
        self._certificates.set_status(certificate_id, CertificateStatus.ACTIVE)
        (certificate,) = self._claims({certificate_id: name})
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        credentials = Credentials(root_ca(), made["certificatePem"].encode(), key_pem)
        return ClaimCredentials(certificate, credentials)

    def claims(self) -> Sequence[Certificate]:
        """See ``FleetControl``."""
        return self._claims(self._list.claims())

    def revoke_claim(self, name_or_id: str) -> Sequence[Certificate]:
        """See ``FleetControl``."""
        hit = {one: name for one, name in self._list.claims().items() if name_or_id in {one, name}}
        if not hit:
            raise FleetError(
                f"there is no claim certificate {name_or_id!r}",
                hint="milepost-cloud fleet claim list --aws shows their names and ids",
            )
        for certificate_id in hit:
            self._certificates.set_status(certificate_id, CertificateStatus.REVOKED)
        return self._claims(hit)

    # --- allow list ------------------------------------------------------------------

    def allow(self, vehicles: Sequence[AllowedVehicle]) -> None:
        """See ``FleetControl``."""
        self._list.add(vehicles)

    def allowed(self) -> Sequence[AllowedVehicle]:
        """See ``FleetControl``."""
        return self._list.lines()

    def disallow(self, serial_number: str) -> AllowedVehicle:
        """See ``FleetControl``."""
        line = self._list.registrations.find(serial_number)
        if line is None:
            raise FleetError(
                f"serial number {serial_number!r} is not on the allow list",
                hint="milepost-cloud fleet allow list --aws shows it",
            )
        self._list.remove(line)
        return line

    # --- vehicles --------------------------------------------------------------------

    def vehicles(self) -> Sequence[FleetVehicle]:
        """See ``FleetControl``: things with a certificate of our policy, or of our list."""
        lines = {line.vehicle_id: line for line in self._list.lines()}
        known, blocked = self._list.known(), self._list.blocked()
        ours = set(
            self._pages("list_targets_for_policy", "targets", policyName=self._policies.vehicle)
        )

        def look(thing: dict[str, Any]) -> FleetVehicle | None:
            name = thing["thingName"]
            held = self._certificates.of_thing(name)
            if name not in known and not any(one.arn in ours for one in held):
                return None
            return self._vehicle(name, thing, held, lines.get(name), blocked=name in blocked)

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fleet") as threads:
            found = threads.map(look, self._pages("list_things", "things"))
            return sorted((one for one in self._told(found) if one), key=lambda one: one.vehicle_id)

    def describe(self, vehicle_id: str) -> FleetVehicle:
        """See ``FleetControl``."""
        try:
            with wrapped(_IOT, but=GONE):
                thing = self._iot.describe_thing(thingName=vehicle_id)
        except ClientError:
            raise _unknown(vehicle_id) from None
        line = self._line(vehicle_id)
        return self._vehicle(
            vehicle_id,
            thing,
            self._certificates.of_thing(vehicle_id),
            line,
            blocked=self._list.registrations.is_blocked(vehicle_id),
        )

    def block(self, vehicle_id: str) -> None:
        """See ``FleetControl``."""
        self._check_known(vehicle_id)
        self._list.set_blocked(vehicle_id, blocked=True)
        self._change(vehicle_id, CertificateStatus.ACTIVE, CertificateStatus.INACTIVE)

    def unblock(self, vehicle_id: str) -> None:
        """See ``FleetControl``."""
        self._check_known(vehicle_id)
        if self._list.registrations.is_blocked(vehicle_id):
            self._change(vehicle_id, CertificateStatus.INACTIVE, CertificateStatus.ACTIVE)
            self._list.set_blocked(vehicle_id, blocked=False)
        if (line := self._line(vehicle_id)) is not None:
            self._list.set_line_blocked(line.serial_number, blocked=False)

    def revoke(self, vehicle_id: str) -> Sequence[Certificate]:
        """See ``FleetControl``; the board may not register again before it is unblocked."""
        held = self._certificates.of_thing(vehicle_id)
        if not held:
            raise _unknown(vehicle_id)
        if (line := self._line(vehicle_id)) is not None:
            self._list.set_line_blocked(line.serial_number, blocked=True)
        for one in held:
            self._certificates.set_status(one.certificate_id, CertificateStatus.REVOKED)
        revoked = self._certificates.of_thing(vehicle_id)
        return _latest_first([self._certificate(one, vehicle_id) for one in revoked])

    # ---------------------------------------------------------------------------------

    def _check_known(self, vehicle_id: str) -> None:
        if self._line(vehicle_id) is None:
            self.describe(vehicle_id)

    def _line(self, vehicle_id: str) -> AllowedVehicle | None:
        serial_number = self._list.serial_number_of(vehicle_id)
        return self._list.registrations.find(serial_number) if serial_number else None

    def _told(self, looked_at: Iterable[FleetVehicle | None]) -> Iterator[FleetVehicle | None]:
        told_s = self._clock.monotonic_s()
        for number, one in enumerate(looked_at, start=1):
            yield one
            if self._clock.monotonic_s() - told_s >= TELL_EVERY_S:
                told_s = self._clock.monotonic_s()
                self._tell(f"{number} things looked at …")

    def _change(self, thing: str, before: CertificateStatus, after: CertificateStatus) -> None:
        for one in self._certificates.of_thing(thing):
            if one.status is before:
                self._certificates.set_status(one.certificate_id, after)

    def _vehicle(
        self,
        vehicle_id: str,
        thing: dict[str, Any],
        held: Sequence[IotCertificate],
        line: AllowedVehicle | None,
        *,
        blocked: bool,
    ) -> FleetVehicle:
        attributes = thing.get("attributes", {})
        return FleetVehicle(
            vehicle_id=vehicle_id,
            vehicle_type=line.vehicle_type if line else attributes.get("vehicle_type", ""),
            serial_number=line.serial_number if line else attributes.get("serial_number"),
            blocked=blocked,
            created_at=min((one.created_at for one in held), default=self._clock.utc()),
            certificates=_latest_first([self._certificate(one, vehicle_id) for one in held]),
        )

    def _claims(self, names: Mapping[str, str]) -> list[Certificate]:
        found = [(self._certificates.describe(one), name) for one, name in names.items()]
        return _latest_first(
            [self._certificate(one, None, claim_name=name) for one, name in found if one]
        )

    def _certificate(
        self, one: IotCertificate, thing: str | None, *, claim_name: str | None = None
    ) -> Certificate:
        known = self._list.registrations
        return Certificate(
            certificate_id=one.certificate_id,
            status=one.status or CertificateStatus.INACTIVE,
            origin=known.origin(one.certificate_id),
            thing=thing,
            claim_name=claim_name,
            serial=f"{x509.load_pem_x509_certificate(one.pem).serial_number:x}",
            not_before=one.not_before,
            not_after=one.not_after,
            created_at=one.created_at,
            connected_at=known.connected_at(one.certificate_id),
        )

    def _pages(self, operation: str, key: str, **arguments: str) -> Iterator[Any]:
        with wrapped(_IOT):
            for page in self._iot.get_paginator(operation).paginate(**arguments):
                yield from page[key]


def fleet_of_stack(session: Any, stack: str, clock: Clock, tell: Callable[[str], None]) -> AwsFleet:
    """The fleet of a deployed stack, found by its outputs; ``tell`` takes lines of progress.

    Raises:
        ConfigError: there is no such stack, or it is of an earlier version.
    """
    outputs = stack_outputs(session, stack, *_OUTPUTS)
    table, register, vehicle_policy, claim_policy = (outputs[name] for name in _OUTPUTS)
    iot = session.client("iot", config=CONFIG)
    dynamodb = session.client("dynamodb", config=CONFIG)
    registrations = DynamoRegistrations(dynamodb, table, IotCertificates(iot), clock)
    allow_list = DynamoAllowList(dynamodb, table, register, registrations)
    return AwsFleet(iot, allow_list, Policies(vehicle_policy, claim_policy), clock, tell)


def _unknown(vehicle_id: str) -> FleetError:
    return FleetError(
        f"there is no vehicle {vehicle_id!r}",
        hint="milepost-cloud fleet list --aws shows the vehicles",
    )


def _latest_first(certificates: Sequence[Certificate]) -> list[Certificate]:
    return sorted(certificates, key=lambda one: (one.created_at, one.certificate_id), reverse=True)
