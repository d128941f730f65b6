"""What the identity's store keeps: a generation and what is pending, and their files' JSON.

Reading raises ``ValueError``, ``KeyError`` or ``TypeError`` where a file is broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.errors import IdentityError

CERTIFICATE_FILE: Final = "certificate.pem"
KEY_FILE: Final = "key.pem"
FACTS_FILE: Final = "identity.json"
JOURNAL_FILE: Final = "journal.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """One generation: whom the vehicle is to the broker, and with what it proves it.

    Exactly one of ``key_file`` and ``key_label`` (of a key in a token) is set.
    """

    generation: int
    vehicle_id: str
    certificate_id: str
    template: str
    obtained_at: str
    """RFC 3339, by the system's clock at that time."""

    certificate_file: Path
    key_file: Path | None
    key_label: str | None


@dataclass(frozen=True, slots=True)
class PendingCertificate:
    """Issued, kept, not yet registered; ``token`` proves to the cloud whose it is."""

    certificate_id: str
    token: str
    received_at: str
    """RFC 3339: the token counts for an hour."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An unfinished provisioning or rotation: a key, and what was got for it so far."""

    template: str
    key_file: Path | None
    key_label: str | None
    certificate_file: Path
    """Is there once ``certificate`` is set."""

    certificate: PendingCertificate | None = None
    vehicle_id: str | None = None
    """As registered; the identity can be used from then on."""

    @classmethod
    def begun(cls, folder: Path, template: str, key_label: str | None) -> Pending:
        """With a key, and nothing for it yet."""
        return cls(
            template=template,
            key_file=folder / KEY_FILE if key_label is None else None,
            key_label=key_label,
            certificate_file=folder / CERTIFICATE_FILE,
        )


def identity_of(folder: Path, facts: Mapping[str, Any]) -> Identity:
    """The generation in a folder, whose name is its number, by its facts."""
    label: str | None = facts["key_label"]
    return Identity(
        generation=int(folder.name),
        vehicle_id=str(facts["vehicle_id"]),
        certificate_id=str(facts["certificate_id"]),
        template=str(facts["template"]),
        obtained_at=str(facts["obtained_at"]),
        certificate_file=folder / CERTIFICATE_FILE,
        key_file=folder / KEY_FILE if label is None else None,
        key_label=label,
    )


def facts_of(pending: Pending, obtained_at: str) -> dict[str, Any]:
    """The facts of the generation that a pending one becomes.

    Raises:
        IdentityError: it is not registered.
    """
    if pending.certificate is None or pending.vehicle_id is None:
        raise IdentityError(
            "the pending identity is not registered",
            hint="Provisioning or rotation must go on first.",
        )
    return {
        "vehicle_id": pending.vehicle_id,
        "certificate_id": pending.certificate.certificate_id,
        "template": pending.template,
        "obtained_at": obtained_at,
        "key": "file" if pending.key_label is None else "pkcs11",
        "key_label": pending.key_label,
    }


def pending_of(folder: Path, journal: Mapping[str, Any]) -> Pending:
    """What is pending in a folder, by its journal."""
    begun = Pending.begun(folder, str(journal["template"]), journal["key_label"])
    certificate = None
    if "certificate_id" in journal:
        certificate = PendingCertificate(
            str(journal["certificate_id"]), str(journal["token"]), str(journal["received_at"])
        )
    return replace(begun, certificate=certificate, vehicle_id=journal.get("vehicle_id"))


def journal_of(pending: Pending) -> dict[str, Any]:
    """The journal of what is pending."""
    journal: dict[str, Any] = {"template": pending.template, "key_label": pending.key_label}
    if pending.certificate is not None:
        journal |= asdict(pending.certificate)
    if pending.vehicle_id is not None:
        journal["vehicle_id"] = pending.vehicle_id
    return journal
