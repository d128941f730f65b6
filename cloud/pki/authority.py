"""The authority: signs the server's and the vehicles' certificates, and keeps them on file."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cloud.errors import ConfigError
from cloud.files import write_atomically
from cloud.pki.certificates import (
    SERVER,
    VEHICLE,
    KeyPair,
    common_name_of,
    make_authority,
    names_of,
    serial_of,
    sign,
)
from cloud.pki.revocation import add_revoked, read_revoked
from contract import ContractError, Topics

SERVER_DAYS: Final = 397
VEHICLE_DAYS: Final = 365
MAX_VEHICLE_DAYS: Final = 10 * 365
MAX_COMMON_NAME: Final = 64
"""Characters (RFC 5280, appendix A)."""
RENEW_SERVER_BEFORE: Final = timedelta(days=30)
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

    def __init__(self, folder: Path, pair: KeyPair) -> None:
        self._folder = folder
        self._pair = pair

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
            pair = KeyPair.from_pem(
                (home / "certificate.pem").read_bytes(), (home / "key.pem").read_bytes()
            )
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the certificate authority in {folder} cannot be used: {error}",
                hint="restore the folder from a backup, or name another --data folder; "
                "a new authority means new certificates for every vehicle",
            ) from error
        return cls(folder, pair)

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
            pair = sign(
                self._pair,
                common_name="localhost",
                names=sorted(wanted),
                usage=SERVER,
                now=now,
                days=SERVER_DAYS,
            )
            write_atomically(path, pair.key_pem + pair.certificate_pem, 0o600)
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
        if len(vehicle_id) > MAX_COMMON_NAME:
            raise ConfigError(
                f"vehicle_id has {len(vehicle_id)} characters; a certificate's common name "
                f"holds {MAX_COMMON_NAME} (RFC 5280)",
                hint="choose a shorter vehicle_id",
            )
        if not 1 <= days <= MAX_VEHICLE_DAYS:
            raise ConfigError(
                f"{days} days cannot be a validity", hint=f"choose 1 to {MAX_VEHICLE_DAYS} days"
            )
        pair = sign(self._pair, common_name=vehicle_id, usage=VEHICLE, now=now, days=days)
        issued = self._folder / "issued"
        issued.mkdir(exist_ok=True)
        path = issued / f"{serial_of(pair.certificate)}.pem"
        write_atomically(path, pair.certificate_pem, 0o644)
        return Credentials(self._pair.certificate_pem, pair.certificate_pem, pair.key_pem)

    def issued(self) -> list[IssuedCertificate]:
        """Every certificate that was issued to a vehicle, by vehicle and age."""
        revoked = read_revoked(self.revoked_file)
        found = []
        for path in (self._folder / "issued").glob("*.pem"):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            serial = serial_of(certificate)
            found.append(
                IssuedCertificate(
                    vehicle_id=common_name_of(certificate),
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
        add_revoked(self.revoked_file, {one.serial: one.vehicle_id for one in hit}, now)
        serials = {one.serial for one in hit}
        return [one for one in self.issued() if one.serial in serials]

    def _serves(self, path: Path, wanted: set[str], now: datetime) -> bool:
        try:
            pem = path.read_bytes()
            certificate = KeyPair.from_pem(pem, pem).certificate
            certificate.verify_directly_issued_by(self._pair.certificate)
            held = names_of(certificate)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        return wanted <= held and certificate.not_valid_after_utc - now > RENEW_SERVER_BEFORE


def _create(folder: Path, home: Path, now: datetime) -> None:
    pair = make_authority(now)
    draft = Path(tempfile.mkdtemp(dir=folder, prefix=".ca."))
    try:
        write_atomically(draft / "key.pem", pair.key_pem, 0o600)
        write_atomically(draft / "certificate.pem", pair.certificate_pem, 0o644)
        draft.rename(home)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
