"""Data folders of versions before the registry: ``issued/*.pem`` and ``revoked.json``.

They are read once, into the registry, and then put aside as ``issued.taken-over`` and
``revoked.taken-over.json``. A power cut in between only means that they are read again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from cloud.errors import ConfigError
from cloud.pki.certificates import serial_of

ISSUED: Final = "issued"
REVOKED: Final = "revoked.json"


@dataclass(frozen=True, slots=True)
class EarlierCertificate:
    """A vehicle's certificate as an earlier version had it on file."""

    certificate: x509.Certificate
    revoked: bool


def earlier_certificates(folder: Path) -> list[EarlierCertificate]:
    """What an earlier version issued from this authority's folder; mostly nothing.

    Raises:
        ConfigError: a file is there and cannot be read; who is revoked is then not known.
    """
    revoked = _revoked(folder / REVOKED)
    found = []
    for path in sorted((folder / ISSUED).glob("*.pem")):
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}", hint="restore it from a backup, or remove it"
            ) from error
        found.append(EarlierCertificate(certificate, serial_of(certificate) in revoked))
    return found


def put_aside(folder: Path) -> None:
    """Rename what was taken over, so that it is not read again.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    try:
        for name, aside in ((ISSUED, "issued.taken-over"), (REVOKED, "revoked.taken-over.json")):
            if (folder / name).exists():
                (folder / name).rename(folder / aside)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error}", hint="may this user write to the data directory?"
        ) from error


def _revoked(path: Path) -> frozenset[str]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return frozenset()
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
    return frozenset(content)
