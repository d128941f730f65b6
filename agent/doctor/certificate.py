"""The vehicle's identity: files, modes, key and certificate together, dates, name, and the CA."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject
from agent.errors import AgentError, IdentityError
from agent.host import system_utc
from agent.identity import IdentityStore, identified
from agent.transport import (
    CertificateFacts,
    Credentials,
    certificate_facts,
    check_credentials,
    check_transport,
)

SOON: Final = timedelta(days=30)

NO_CONFIG: Final = Kind(
    "cert-not-checked", Severity.INFO, "not checked: [broker] is missing or cannot be used"
)
NOT_PROVISIONED: Final = Kind(
    "cert-not-provisioned",
    Severity.ERROR,
    "this vehicle is not provisioned yet: there is no identity in {folder}",
    "sudo milepost-agent provision",
    "Or name broker.certificate_file and broker.key_file in the config.",
)
UNUSABLE: Final = Kind(
    "cert-file-unusable",
    Severity.ERROR,
    "a file of the identity cannot be used: {reason}",
    "sudo ls -l {folder}",
    "{hint}",
)
DENIED: Final = Kind(
    "cert-not-readable-here",
    Severity.INFO,
    "not checked: this user may not read {path}",
    "sudo milepost-agent doctor --only certificate",
)
KEY_OPEN: Final = Kind(
    "cert-key-open",
    Severity.WARNING,
    "others than its owner can read {path} (mode {mode})",
    "sudo chmod 600 {path}",
    "Who can read it can pass for this vehicle.",
)
MISMATCH: Final = Kind(
    "cert-mismatch",
    Severity.ERROR,
    "the broker cannot take this identity: {reason}",
    "openssl x509 -noout -pubkey -in {certificate}; sudo openssl pkey -pubout -in {key}",
    "{hint}",
)
EXPIRED: Final = Kind(
    "cert-expired",
    Severity.ERROR,
    "the vehicle's certificate {path} expired {days} days ago ({date})",
    "milepost-cloud certs issue {vehicle_id} --force --out identity",
    "On AWS IoT Core: create and attach a new certificate. Then replace the files.",
)
EXPIRED_PROVISIONED: Final = Kind(
    "cert-expired-provisioned",
    Severity.ERROR,
    "the vehicle's certificate {path} expired {days} days ago ({date}), and cannot be rotated any"
    " more",
    "sudo milepost-agent provision --force",
    "It needs a claim certificate, and the fleet's leave to register this board once more.",
)
NOT_YET: Final = Kind(
    "cert-not-yet-valid",
    Severity.ERROR,
    "the vehicle's certificate {path} is valid from {date} on, and this board's clock says {now}",
    "sudo systemctl restart chrony && chronyc waitsync 30",
    "It is the clock more often than the certificate.",
)
EXPIRES: Final = Kind(
    "cert-expires-soon",
    Severity.WARNING,
    "the vehicle's certificate {path} expires in {days} days ({date})",
    "milepost-cloud certs issue {vehicle_id} --force --out identity",
    "On AWS IoT Core: create and attach a new certificate, replace the files, then revoke the old.",
)
OTHER_NAME: Final = Kind(
    "cert-other-name",
    Severity.WARNING,
    "{path} is the certificate of {name!r}, vehicle.id is {vehicle_id!r}",
    "milepost-cloud certs issue {vehicle_id} --out identity",
    "The one-machine cloud refuses that; AWS IoT Core goes by the thing it is attached to.",
)
CA_EXPIRED: Final = Kind(
    "cert-ca-expired",
    Severity.ERROR,
    "no certificate in {path} is valid now: the last expired on {date}",
    "openssl x509 -noout -subject -dates -in {path}",
    "Get the broker's present CA. That of AWS: https://www.amazontrust.com/repository/.",
)
CA_EXPIRES: Final = Kind(
    "cert-ca-expires-soon",
    Severity.WARNING,
    "the CA in {path} expires in {days} days ({date})",
    "openssl x509 -noout -subject -dates -in {path}",
    "Add its successor to the file before that; both may stand in it.",
)
NO_CA: Final = Kind(
    "cert-no-ca",
    Severity.ERROR,
    "{path} holds no CA certificate",
    "openssl x509 -noout -text -in {path}",
    "It must hold the CA that signed the broker's certificate, not that certificate itself.",
)
TOKEN: Final = Kind(
    "cert-token-unusable",
    Severity.ERROR,
    "the token cannot be used: {reason}",
    "p11tool --list-tokens || pkcs11-tool --module {module} -O",
    "{hint}",
)
TOKEN_GOOD: Final = Kind(
    "cert-token-good",
    Severity.OK,
    "the key is in the token {token!r} and can be used; name and dates were not read",
)
GOOD: Final = Kind("cert-good", Severity.OK, "{name}, valid until {date}, the key is its own")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files say; a fault ends the look at what comes after it."""

    now: datetime
    vehicle_id: str | None = None
    ca_file: Path = Path()
    missing_in: Path | None = None
    """Where the identity would be, if the vehicle were provisioned."""

    is_provisioned: bool = False
    """Rather than named in the config: its certificate may bear any name."""

    certificate_file: Path = Path()
    key_file: Path | None = None
    key_mode: int | None = None
    denied: Path | None = None
    file_fault: AgentError | None = None
    pair_fault: IdentityError | None = None
    certificate: CertificateFacts | None = None
    ca_ends: tuple[datetime, ...] | None = None
    token: str = ""
    module_file: str = ""
    token_fault: AgentError | None = None


def gather(subject: Subject) -> Facts | None:
    """Read the files, and open the token where there is one; ``None`` without ``[broker]``."""
    broker = subject.parts.broker
    if broker is None:
        return None
    store = IdentityStore(subject.parts.state.dir)
    if broker.certificate_file is None:
        return Facts(system_utc(), **_why_none(subject, store))
    credentials = Credentials.of(broker)
    facts: dict[str, Any] = {
        "now": system_utc(),
        "vehicle_id": subject.parts.vehicle_id,
        "ca_file": broker.ca_file,
        "certificate_file": broker.certificate_file,
        "key_file": broker.key_file,
        "is_provisioned": store.holds(broker.certificate_file),
    }
    try:
        check_credentials(credentials, warn=False)
    except IdentityError as error:
        denied = isinstance(error.__cause__, PermissionError)
        named = [broker.ca_file, broker.certificate_file, broker.key_file]
        path = next((path for path in named if path and str(path) in error.message), None)
        return Facts(**facts, **({"denied": path} if denied else {"file_fault": error}))
    secret = broker.key_file or (broker.pkcs11.pin_path if broker.pkcs11 else None)
    facts["key_mode"] = stat.S_IMODE(secret.stat().st_mode) if secret else None
    facts["ca_ends"] = _ca_ends(broker.ca_file)
    if broker.pkcs11 is not None:
        facts |= {"token": broker.pkcs11.token_label, "module_file": str(broker.pkcs11.module_file)}
        facts["key_file"] = broker.pkcs11.pin_path
        try:
            check_transport(broker)
        except AgentError as error:
            facts["token_fault"] = error
        return Facts(**facts)
    try:
        facts["certificate"] = certificate_facts(credentials)
    except IdentityError as error:
        facts["pair_fault"] = error
    return Facts(**facts)


def _why_none(subject: Subject, store: IdentityStore) -> dict[str, Any]:
    """Why the config names no certificate and no identity was filled in."""
    try:
        if store.current() is not None and subject.parts.settings is not None:
            identified(subject.parts.settings)
    except AgentError as error:
        if isinstance(error.__cause__, PermissionError):
            return {"denied": store.folder}
        return {"file_fault": error, "certificate_file": store.folder / "current"}
    return {"missing_in": store.folder}


def check(facts: Facts | None) -> Iterator[Finding]:
    """Findings of the identity."""
    if facts is None:
        yield NO_CONFIG()
        return
    if facts.missing_in is not None:
        yield NOT_PROVISIONED(folder=facts.missing_in)
        return
    if facts.file_fault is not None:
        fault = facts.file_fault
        folder = (facts.key_file or facts.certificate_file).parent
        yield UNUSABLE(reason=fault.message, hint=fault.hint, folder=folder)
        return
    if facts.denied is not None:
        yield DENIED(path=facts.denied)
        return
    if facts.key_mode is not None and facts.key_mode & 0o077:
        yield KEY_OPEN(path=facts.key_file, mode=f"{facts.key_mode:04o}")
    yield from _ca(facts)
    if facts.token:
        yield from _token(facts)
    elif facts.pair_fault is not None:
        yield MISMATCH(
            reason=facts.pair_fault.message,
            hint=facts.pair_fault.hint,
            certificate=facts.certificate_file,
            key=facts.key_file,
        )
    elif facts.certificate is not None:
        yield from _certificate(facts, facts.certificate)


def _certificate(facts: Facts, certificate: CertificateFacts) -> Iterator[Finding]:
    path, vehicle_id = facts.certificate_file, facts.vehicle_id or "VEHICLE"
    left = certificate.not_after - facts.now
    values = {"path": path, "vehicle_id": vehicle_id, "date": _date(certificate.not_after)}
    is_named_wrongly = certificate.name != facts.vehicle_id and not facts.is_provisioned
    if is_named_wrongly and facts.vehicle_id is not None:
        yield OTHER_NAME(path=path, name=certificate.name, vehicle_id=vehicle_id)
    if certificate.not_before > facts.now:
        now = facts.now.strftime("%Y-%m-%d %H:%M UTC")
        yield NOT_YET(path=path, date=_date(certificate.not_before), now=now)
    elif left < timedelta():
        expired = EXPIRED_PROVISIONED if facts.is_provisioned else EXPIRED
        yield expired(days=(-left).days, **values)
    elif left < SOON and not facts.is_provisioned:  # else the area of the identity judges
        yield EXPIRES(days=left.days, **values)
    else:
        name = vehicle_id if facts.is_provisioned else certificate.name
        yield GOOD(name=name, date=_date(certificate.not_after))


def _ca(facts: Facts) -> Iterator[Finding]:
    if facts.ca_ends is None:
        return  # the broker's area says what OpenSSL says of the file
    if not facts.ca_ends:
        yield NO_CA(path=facts.ca_file)
        return
    last = max(facts.ca_ends)
    left = last - facts.now
    if left < timedelta():
        yield CA_EXPIRED(path=facts.ca_file, date=_date(last))
    elif left < SOON:
        yield CA_EXPIRES(path=facts.ca_file, days=left.days, date=_date(last))


def _token(facts: Facts) -> Iterator[Finding]:
    if facts.token_fault is not None:
        fault = facts.token_fault
        yield TOKEN(reason=fault.message, hint=fault.hint, module=facts.module_file)
    else:
        yield TOKEN_GOOD(token=facts.token)


def _ca_ends(ca_file: Path) -> tuple[datetime, ...] | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except (OSError, ssl.SSLError):
        return None
    return tuple(
        datetime.fromtimestamp(ssl.cert_time_to_seconds(str(entry["notAfter"])), UTC)
        for entry in context.get_ca_certs()
    )


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
