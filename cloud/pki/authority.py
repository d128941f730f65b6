"""The authority: signs the server's, the vehicles' and the claims' certificates.

What it signed for vehicles and claims is written down by the caller, in the registry
(``cloud.provisioning``); here nothing is kept but the authority and the server's own.
"""

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
    make_authority,
    names_of,
    pem_of,
    revocation_list,
    sign,
    sign_key,
)
from cloud.pki.csr import proven_key
from contract import ContractError, Topics
from contract.provisioning import CLAIM_CLIENT_PREFIX

SERVER_DAYS: Final = 397
VEHICLE_DAYS: Final = 365
CLAIM_DAYS: Final = 90
REVOCATION_LIST_DAYS: Final = 366
"""A broker lets nobody in when its list is older."""
MAX_VEHICLE_DAYS: Final = 10 * 365
MAX_COMMON_NAME: Final = 64
"""Characters (RFC 5280, appendix A)."""
RENEW_SERVER_BEFORE: Final = timedelta(days=30)
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
CLAIM_NAME: Final = "Milepost claim"
PROVISIONED_NAME: Final = "Milepost vehicle"
"""Of a certificate whose vehicle is not known before it is registered."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs to connect, as PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    def write_to(self, folder: Path) -> None:
        """Write ``ca.pem``, ``certificate.pem`` and ``key.pem`` (0600)."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "ca.pem", self.ca_pem, 0o644)
        write_atomically(folder / "key.pem", self.key_pem, 0o600)
        write_atomically(folder / "certificate.pem", self.certificate_pem, 0o644)


class Authority:
    """Signs certificates; safe from any thread."""

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
        """A new key and certificate for one vehicle.

        Raises:
            ConfigError: the vehicle_id or the number of days is not possible.
        """
        check_vehicle_id(vehicle_id)
        return self._credentials(vehicle_id, now, days)

    def issue_claim(self, now: datetime, days: int = CLAIM_DAYS) -> Credentials:
        """A new key and certificate that can be used for provisioning.

        Raises:
            ConfigError: the number of days is not possible.
        """
        return self._credentials(CLAIM_NAME, now, days)

    def issue_provisioned(self, now: datetime) -> Credentials:
        """A new key and certificate for a vehicle that is named later."""
        return self._credentials(PROVISIONED_NAME, now, VEHICLE_DAYS)

    def sign_request(self, csr_pem: str, name: str, now: datetime) -> bytes:
        """The certificate (PEM) for a signing request, with a common name of our own.

        Raises:
            CsrError: the request is not accepted.
        """
        certificate = sign_key(
            self._pair,
            proven_key(csr_pem),
            common_name=name,
            usage=VEHICLE,
            now=now,
            days=VEHICLE_DAYS,
        )
        return pem_of(certificate)

    def revocation_list(self, serials: Iterable[str], now: datetime) -> bytes:
        """A list (PEM) of certificates that do not count, for brokers that know no registry."""
        return revocation_list(self._pair, serials, now=now, days=REVOCATION_LIST_DAYS)

    def _credentials(self, common_name: str, now: datetime, days: int) -> Credentials:
        if not 1 <= days <= MAX_VEHICLE_DAYS:
            raise ConfigError(
                f"{days} days cannot be a validity", hint=f"choose 1 to {MAX_VEHICLE_DAYS} days"
            )
        pair = sign(self._pair, common_name=common_name, usage=VEHICLE, now=now, days=days)
        return Credentials(self._pair.certificate_pem, pair.certificate_pem, pair.key_pem)

    def _serves(self, path: Path, wanted: set[str], now: datetime) -> bool:
        try:
            pem = path.read_bytes()
            certificate = KeyPair.from_pem(pem, pem).certificate
            certificate.verify_directly_issued_by(self._pair.certificate)
            held = names_of(certificate)
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        return wanted <= held and certificate.not_valid_after_utc - now > RENEW_SERVER_BEFORE


def check_vehicle_id(vehicle_id: str) -> None:
    """Whether a vehicle may be called so.

    Raises:
        ConfigError: it may not.
    """
    try:
        Topics(vehicle_id)
    except ContractError as error:
        raise ConfigError(
            f"{vehicle_id!r} cannot be a vehicle_id: {error.reason}",
            hint="use letters, digits, ':', '_' and '-'",
        ) from None
    if vehicle_id.startswith(CLAIM_CLIENT_PREFIX):
        raise ConfigError(
            f"{vehicle_id!r} cannot be a vehicle_id: {CLAIM_CLIENT_PREFIX} begins the client ids "
            "of boards that are no vehicle yet",
            hint="choose another vehicle_id",
        )
    if len(vehicle_id) > MAX_COMMON_NAME:
        raise ConfigError(
            f"vehicle_id has {len(vehicle_id)} characters; a certificate's common name "
            f"holds {MAX_COMMON_NAME} (RFC 5280)",
            hint="choose a shorter vehicle_id",
        )


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
