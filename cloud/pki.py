"""The one-machine cloud's own certificate authority.

Invariants:

1. An authority that is there is never overwritten: creation is one rename, and the
   loser of two creations uses the winner's.
2. Private keys are readable by their owner alone, from the first byte on.
3. Every certificate that was issued to a vehicle stays on file under its serial number,
   so that it can be listed and revoked; a vehicle's private key is handed out and not kept.

Layout, below ``DATA/pki`` (0700)::

    ca/certificate.pem  ca/key.pem      the authority (EC P-256)
    server.pem                          the server's key and certificate, renewed at start
    issued/<serial>.pem                 the certificates of vehicles
    revoked.json                        {serial: {"vehicle_id", "revoked_at"}}

Time is passed in; nothing here reads a clock. A vehicle whose clock stands before
``not_before`` refuses the server, so validity starts an hour early.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.errors import ConfigError
from contract import ContractError, Topics

AUTHORITY_DAYS: Final = 20 * 365
SERVER_DAYS: Final = 397
VEHICLE_DAYS: Final = 365
MAX_VEHICLE_DAYS: Final = 10 * 365
RENEW_SERVER_BEFORE: Final = timedelta(days=30)
CLOCK_TOLERANCE: Final = timedelta(hours=1)
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a vehicle needs to connect, as PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    def write_to(self, folder: Path) -> None:
        """Write ``ca.pem``, ``certificate.pem`` and ``key.pem`` (0600)."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "ca.pem", self.ca_pem, 0o644)
        write_atomically(folder / "key.pem", self.key_pem, 0o600)
        write_atomically(folder / "certificate.pem", self.certificate_pem, 0o644)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A vehicle's certificate as the authority has it on file."""

    vehicle_id: str
    serial: str
    not_before: datetime
    not_after: datetime
    revoked_at: str | None


class Authority:
    """Signs the server's and the vehicles' certificates."""

    def __init__(
        self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self._folder = folder
        self._certificate = certificate
        self._key = key

    @classmethod
    def open_or_create(cls, folder: Path, now: datetime) -> Authority:
        """The authority in ``folder``, made on first use.

        Raises:
            ConfigError: its files are incomplete, broken or not readable.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            home = folder / "ca"
            if not home.exists():
                _create(folder, home, now)
            certificate = x509.load_pem_x509_certificate((home / "certificate.pem").read_bytes())
            key = serialization.load_pem_private_key((home / "key.pem").read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the certificate authority in {folder} cannot be used: {error}",
                hint="restore the folder from a backup, or name another --data folder; "
                "a new authority means new certificates for every vehicle",
            ) from error
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
        ):
            raise ConfigError(
                f"{home}/key.pem does not belong to {home}/certificate.pem",
                hint="restore both files from the same backup",
            )
        return cls(folder, certificate, key)

    @property
    def certificate_file(self) -> Path:
        """The authority's certificate, PEM."""
        return self._folder / "ca" / "certificate.pem"

    @property
    def revoked_file(self) -> Path:
        """Where revoked serial numbers stand; absent while there are none."""
        return self._folder / "revoked.json"

    def server_file(self, names: Iterable[str], now: datetime) -> Path:
        """A PEM file with the server's key and certificate, made or renewed as needed.

        ``names`` are host names and addresses beside the local ones.
        """
        path = self._folder / "server.pem"
        wanted = set(LOCAL_NAMES) | {name for name in names if name}
        if not self._serves(path, wanted, now):
            key, certificate = self._sign(
                common_name="localhost",
                names=sorted(wanted),
                usage=ExtendedKeyUsageOID.SERVER_AUTH,
                now=now,
                days=SERVER_DAYS,
            )
            write_atomically(path, _key_pem(key) + _certificate_pem(certificate), 0o600)
        return path

    def issue(self, vehicle_id: str, now: datetime, days: int = VEHICLE_DAYS) -> Credentials:
        """A new key and certificate for one vehicle; those issued before stay valid.

        Raises:
            ConfigError: the vehicle_id or the number of days is not possible.
        """
        try:
            Topics(vehicle_id)
        except ContractError as error:
            raise ConfigError(
                f"{vehicle_id!r} cannot be a vehicle_id: {error.reason}",
                hint="use letters, digits, ':', '_' and '-'",
            ) from None
        if len(vehicle_id) > 64:
            raise ConfigError(
                f"vehicle_id has {len(vehicle_id)} characters; a certificate's common name "
                "holds 64 (RFC 5280)",
                hint="choose a shorter vehicle_id",
            )
        if not 1 <= days <= MAX_VEHICLE_DAYS:
            raise ConfigError(
                f"{days} days cannot be a validity", hint=f"choose 1 to {MAX_VEHICLE_DAYS} days"
            )
        key, certificate = self._sign(
            common_name=vehicle_id,
            names=(),
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            now=now,
            days=days,
        )
        pem = _certificate_pem(certificate)
        issued = self._folder / "issued"
        issued.mkdir(exist_ok=True)
        write_atomically(issued / f"{_serial(certificate)}.pem", pem, 0o644)
        return Credentials(_certificate_pem(self._certificate), pem, _key_pem(key))

    def issued(self) -> list[IssuedCertificate]:
        """Every certificate that was issued to a vehicle, by vehicle and age."""
        revoked = read_revoked(self.revoked_file)
        found = []
        for path in (self._folder / "issued").glob("*.pem"):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            serial = _serial(certificate)
            found.append(
                IssuedCertificate(
                    vehicle_id=_common_name(certificate),
                    serial=serial,
                    not_before=certificate.not_valid_before_utc,
                    not_after=certificate.not_valid_after_utc,
                    revoked_at=revoked.get(serial),
                )
            )
        return sorted(found, key=lambda one: (one.vehicle_id, one.not_before))

    def revoke(self, vehicle_or_serial: str, now: datetime) -> list[IssuedCertificate]:
        """Revoke one certificate, or all of a vehicle's; a running server notices by itself.

        Raises:
            ConfigError: nothing of that name was issued.
        """
        hit = [one for one in self.issued() if vehicle_or_serial in {one.vehicle_id, one.serial}]
        if not hit:
            raise ConfigError(
                f"no certificate was issued for {vehicle_or_serial!r}",
                hint="milepost-cloud certs list shows vehicles and serial numbers",
            )
        with _locked(self._folder / "revoked.lock"):
            known = _read_json(self.revoked_file)
            for one in hit:
                known.setdefault(
                    one.serial,
                    {"vehicle_id": one.vehicle_id, "revoked_at": now.isoformat()},
                )
            text = json.dumps(known, indent=1, sort_keys=True) + "\n"
            write_atomically(self.revoked_file, text.encode(), 0o644)
        serials = {one.serial for one in hit}
        return [one for one in self.issued() if one.serial in serials]

    def _serves(self, path: Path, wanted: set[str], now: datetime) -> bool:
        try:
            pem = path.read_bytes()
            certificate = x509.load_pem_x509_certificate(pem)
            key = serialization.load_pem_private_key(pem, None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        held = set(names.value.get_values_for_type(x509.DNSName))
        held |= {str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)}
        return (
            key.public_key() == certificate.public_key()
            and wanted <= held
            and certificate.not_valid_after_utc - now > RENEW_SERVER_BEFORE
        )

    def _sign(
        self,
        *,
        common_name: str,
        names: Iterable[str],
        usage: x509.ObjectIdentifier,
        now: datetime,
        days: int,
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        not_after = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        alternatives = [_general_name(name) for name in names]
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return key, builder.sign(self._key, hashes.SHA256())


def read_revoked(path: Path) -> dict[str, str]:
    """Revoked serial numbers (lower-case hexadecimal) and when they were revoked.

    Raises:
        ConfigError: the file is there and cannot be read; who is revoked is then not known.
    """
    return {serial: str(entry["revoked_at"]) for serial, entry in _read_json(path).items()}


def write_atomically(path: Path, content: bytes, mode: int) -> None:
    """Replace ``path`` by ``content``: temporary file, fsync, rename."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _create(folder: Path, home: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Milepost one-machine authority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    draft = Path(tempfile.mkdtemp(dir=folder, prefix=".ca."))
    try:
        write_atomically(draft / "key.pem", _key_pem(key), 0o600)
        write_atomically(draft / "certificate.pem", _certificate_pem(certificate), 0o644)
        draft.rename(home)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def _read_json(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the list of revoked certificates {path} cannot be read: {error}",
            hint="restore it from a backup; without it nobody knows which certificates are revoked",
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"the list of revoked certificates {path} holds no JSON object",
            hint="restore it from a backup",
        )
    return content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
