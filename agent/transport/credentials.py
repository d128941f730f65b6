"""Where the vehicle's certificate and key are, and what can be said of them unread."""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.config import BrokerSettings
from agent.errors import IdentityError

LOG = logging.getLogger("agent.transport")


@dataclass(frozen=True, slots=True)
class Pkcs11Key:
    """A private key that never leaves its token (TPM, secure element, HSM)."""

    module_file: Path
    token_label: str
    key_label: str
    pin_file: Path

    def pin(self) -> str:
        """The user PIN.

        Raises:
            IdentityError: the file cannot be read, or is empty.
        """
        pin = _read("pkcs11.pin_file", self.pin_file).decode("utf-8", "replace").strip()
        if not pin:
            raise IdentityError(
                f"broker.pkcs11.pin_file: {self.pin_file} is empty",
                hint="Put the token's user PIN there, and nothing else; mode 0600.",
            )
        return pin


@dataclass(frozen=True, slots=True)
class Credentials:
    """Three PEM files, or two and a key in a token; and the name to expect of the broker."""

    ca_file: Path
    certificate_file: Path
    key_file: Path | None
    server_name: str
    pkcs11: Pkcs11Key | None = None

    @classmethod
    def of(cls, broker: BrokerSettings) -> Credentials:
        """As the config names them, with the identity filled in (``agent.identity``).

        Raises:
            IdentityError: no certificate is named.
        """
        token = broker.pkcs11
        if broker.certificate_file is None:
            raise IdentityError(
                "broker.certificate_file: no certificate is named, and the vehicle is not"
                " provisioned",
                hint="Run once: milepost-agent provision",
            )
        return cls(
            ca_file=broker.ca_file,
            certificate_file=broker.certificate_file,
            key_file=broker.key_file,
            server_name=broker.server_name or broker.host,
            pkcs11=None
            if token is None
            else Pkcs11Key(token.module_file, token.token_label, token.key_label, token.pin_path),
        )


def check_credentials(credentials: Credentials, *, warn: bool = True) -> None:
    """Look at the files before anything is dialled; a key that others can read is warned of.

    Raises:
        IdentityError: one is missing or unreadable; names the key of the config.
    """
    for key in ("ca_file", "certificate_file", "key_file"):
        path: Path | None = getattr(credentials, key)
        if path is not None and b"-----BEGIN " not in _read(key, path):
            raise IdentityError(
                f"broker.{key}: {path} is not a PEM file",
                hint="It must hold a block that starts with -----BEGIN; openssl converts DER.",
            )
    secret, key = credentials.key_file, "key_file"
    token = credentials.pkcs11
    if token is not None:
        secret, key = token.pin_file, "pkcs11.pin_file"
        token.pin()
        if not token.module_file.is_file():
            raise IdentityError(
                f"broker.pkcs11.module_file: there is no file {token.module_file}",
                hint="Name the PKCS#11 library of the token, e.g. libtpm2_pkcs11.so.1 or"
                " libsofthsm2.so.",
            )
    if secret is None:
        raise IdentityError(
            "broker.key_file: no key is named", hint="Give key_file or a [broker.pkcs11] table."
        )
    mode = secret.stat().st_mode
    if warn and mode & (stat.S_IRWXG | stat.S_IRWXO):
        LOG.warning(
            "broker.%s: others than its owner can read %s (mode %04o); run: chmod 600 %s",
            key,
            secret,
            stat.S_IMODE(mode),
            secret,
        )


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise IdentityError(
            f"broker.{key}: there is no file {path}",
            hint="Put the file there, or correct the path in the config.",
        ) from None
    except OSError as error:
        raise IdentityError(
            f"broker.{key}: cannot read {path}: {error.strerror}",
            hint="Make it readable for the user that the agent runs as.",
        ) from error
