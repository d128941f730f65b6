"""The registry of a fleet: what is known of vehicles, certificates and serial numbers.

``Registrations`` and ``Identities`` are what the cloud's own functions need (on AWS: two
Lambdas), ``FleetControl`` is the operator's side (``milepost-cloud fleet``). Each has one
implementation for AWS and one for a single machine. All raise ``StoreError`` when the call
may succeed later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cloud.pki import Credentials


class CertificateStatus(StrEnum):
    """As on AWS IoT; only ACTIVE connects."""

    PENDING_ACTIVATION = "PENDING_ACTIVATION"
    """Made for a request and not registered yet."""
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    """Retired, or set aside; an operator can bring it back."""
    REVOKED = "REVOKED"
    """Never again."""


class Origin(StrEnum):
    """Who had a certificate made."""

    OPERATOR = "operator"
    """``certs issue``, or ``fleet claim create``: an operator carries it to the board."""
    BY_CLAIM = "by_claim"
    ROTATION = "rotation"


class PrincipalKind(StrEnum):
    """What a client's certificate makes of it."""

    VEHICLE = "vehicle"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Principal:
    """A client that may connect; ``name`` is the vehicle_id, or the claim's name."""

    kind: PrincipalKind
    name: str
    certificate_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a certificate does not count."""

    reason: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. ``thing`` is the vehicle_id, None for claims and unregistered ones."""

    certificate_id: str
    """SHA-256 of the DER, lower-case hexadecimal."""
    status: CertificateStatus
    origin: Origin
    thing: str | None
    claim_name: str | None
    """The operator's name for a claim certificate; None for a vehicle's."""
    serial: str
    not_before: datetime
    not_after: datetime
    created_at: datetime
    connected_at: datetime | None
    """When it was used first."""

    @property
    def is_claim(self) -> bool:
        """Whether it is for provisioning and for nothing else."""
        return self.claim_name is not None


@dataclass(frozen=True, slots=True)
class AllowedVehicle:
    """A line of the allow list: a board that may register, and as which vehicle."""

    serial_number: str
    vehicle_id: str
    vehicle_type: str = ""
    blocked: bool = False
    certificate_id: str | None = None
    """The certificate that it registered last; None before the first registration."""
    registered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FleetVehicle:
    """A vehicle with all that the registry knows of it."""

    vehicle_id: str
    vehicle_type: str
    serial_number: str | None
    blocked: bool
    created_at: datetime
    certificates: Sequence[Certificate]
    """The latest first."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What settlement asks of one certificate of a vehicle."""

    certificate_id: str
    created_at: datetime
    provisioned: bool
    """Made by a template; not one that an operator carries to the board."""


class Registrations(Protocol):
    """What the pre-provisioning hook asks and writes down."""

    def find(self, serial_number: str) -> AllowedVehicle | None:
        """The line of the allow list."""
        ...

    def has_connected(self, certificate_id: str) -> bool:
        """Whether a registered certificate was ever used."""
        ...

    def rotate(self, vehicle_id: str, present_id: str, new_id: str) -> bool:
        """Write down that a vehicle gets another certificate, for which it asks with its present.

        False, and nothing is changed, when that is no ACTIVE one of it, or it is blocked.
        """
        ...

    def register(self, found: AllowedVehicle, certificate_id: str) -> bool:
        """Write down that a board registers with this certificate.

        A certificate that it registered earlier becomes INACTIVE. False, and nothing is
        changed, when the line is not as it was found: somebody else was faster, or that
        certificate is in use by now.
        """
        ...


class Identities(Protocol):
    """What settlement asks and does."""

    def settled_at(self, vehicle_id: str, certificate_id: str) -> datetime | None:
        """When this vehicle's reports over this certificate were looked into last.

        None when they never were, or when looking again costs nothing.
        """
        ...

    def note_settled(self, vehicle_id: str, certificate_id: str, now: datetime) -> None:
        """They were looked into; so the certificate was used."""
        ...

    def identities(self, vehicle_id: str) -> Sequence[Identity]:
        """The vehicle's certificates that are ACTIVE or PENDING_ACTIVATION."""
        ...

    def retire(self, vehicle_id: str, certificate_ids: Iterable[str]) -> None:
        """Make them INACTIVE; one that is REVOKED stays so."""
        ...


class CloudRegistry(Registrations, Identities, Protocol):
    """Both: what the cloud's functions are built from."""


@dataclass(frozen=True, slots=True)
class ClaimCredentials:
    """A new claim certificate; the key is nowhere else."""

    certificate: Certificate
    credentials: Credentials


class FleetControl(Protocol):
    """The operator's side. Everything raises ``FleetError`` for what cannot be done."""

    def create_claim(self, name: str, days: int | None) -> ClaimCredentials:
        """A claim certificate, ACTIVE at once; ``days`` of validity, or as long as is usual."""
        ...

    def claims(self) -> Sequence[Certificate]:
        """Every claim certificate, the latest first."""
        ...

    def revoke_claim(self, name_or_id: str) -> Sequence[Certificate]:
        """Revoke every claim certificate of that name, or the one with that id."""
        ...

    def allow(self, vehicles: Sequence[AllowedVehicle]) -> None:
        """Add lines to the allow list, all or none."""
        ...

    def allowed(self) -> Sequence[AllowedVehicle]:
        """The allow list, by serial number."""
        ...

    def disallow(self, serial_number: str) -> AllowedVehicle:
        """Remove a line; the vehicle keeps its certificates."""
        ...

    def vehicles(self) -> Sequence[FleetVehicle]:
        """Every vehicle, by vehicle_id."""
        ...

    def describe(self, vehicle_id: str) -> FleetVehicle:
        """One vehicle."""
        ...

    def block(self, vehicle_id: str) -> None:
        """Refuse it and end its connection, until it is unblocked; idempotent."""
        ...

    def unblock(self, vehicle_id: str) -> None:
        """Let it in again; idempotent."""
        ...

    def revoke(self, vehicle_id: str) -> Sequence[Certificate]:
        """Revoke all its certificates for good; it has to be provisioned anew, if ever."""
        ...
