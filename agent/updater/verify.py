"""Whether a package may be installed: signature first, then what it says of itself."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agent.updater.board import PACKAGE, Board, UpdateError, ask, installed_version, run
from contract.files import MAX_ARTIFACT_BYTES
from contract.release import ReleaseStatement

_VERSION: Final = re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,127}")
_PIECE: Final = 1024 * 1024
MAX_RELEASE_BYTES: Final = 16 * 1024

_log = logging.getLogger("agent.updater")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its package; believed only with the signature."""

    version: str
    signature: bytes
    downgrade: bool = False


def claim_of(version: object, signature: object, downgrade: object) -> Claim:
    """From what was given, which may be anything.

    Raises:
        UpdateError: it cannot be a claim.
    """
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise UpdateError("the version is no version of a Debian package")
    if not isinstance(downgrade, bool):
        raise UpdateError("downgrade is true or false")
    try:
        raw = base64.b64decode(signature if isinstance(signature, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 64:
        raise UpdateError("the signature is not the 64 bytes of Ed25519 in Base64")
    return Claim(version, raw, downgrade)


def claim_in(path: Path) -> Claim:
    """From the file that ``milepost-cloud release sign`` wrote.

    Raises:
        UpdateError: it is none.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(path.read_bytes()[:MAX_RELEASE_BYTES])
        return claim_of(values["version"], values["signature"], values.get("downgrade", False))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UpdateError(f"{path} is not what `milepost-cloud release sign` writes") from None


def copy_and_digest(source: IO[bytes], target: Path) -> str:
    """Copy a package into the updater's own directory; its SHA-256.

    Raises:
        UpdateError: it is too large.
        OSError: it cannot be read or written.
    """
    digest, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    with target.open("xb") as file:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > MAX_ARTIFACT_BYTES:
                raise UpdateError(f"the package is larger than {MAX_ARTIFACT_BYTES} bytes")
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def check_signature(claim: Claim, sha256: str, architecture: str, keys: Path) -> None:
    """One of the board's release keys must have signed exactly this.

    Raises:
        UpdateError: none has.
    """
    statement = ReleaseStatement(PACKAGE, claim.version, architecture, sha256, claim.downgrade)
    trusted = release_keys(keys)
    if not trusted:
        raise UpdateError(f"this board trusts no release key: there is none in {keys}")
    for key in trusted:
        try:
            key.verify(claim.signature, statement.signed_bytes())
        except InvalidSignature:
            continue
        return
    raise UpdateError(
        f"no release key of this board has signed this as {PACKAGE} {claim.version} for "
        f"{architecture}" + (" with a downgrade" if claim.downgrade else "")
    )


def release_keys(folder: Path) -> list[Ed25519PublicKey]:
    """The public keys that count; one that others than root can change does not."""
    found = []
    for path in sorted(folder.glob("*.pem")):
        for part in (path, folder):
            status = part.stat()
            if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                _log.error("%s does not count: others than root can change %s", path, part)
                break
        else:
            try:
                key = load_pem_public_key(path.read_bytes())
            except (OSError, ValueError, UnsupportedAlgorithm) as error:
                _log.error("%s cannot be used: %s", path, error)
                continue
            if isinstance(key, Ed25519PublicKey):
                found.append(key)
            else:
                _log.error("%s is not an Ed25519 key", path)
    return found


def check_package(board: Board, package: Path, claim: Claim, architecture: str) -> str:
    """What the package says of itself, now that its signature is verified; what runs now.

    Raises:
        UpdateError: it is not what was signed, or not newer than what runs.
    """
    told = {
        name: ask("dpkg-deb", "--field", str(package), name)
        for name in ("Package", "Version", "Architecture")
    }
    signed = {"Package": PACKAGE, "Version": claim.version, "Architecture": architecture}
    if told != signed:
        raise UpdateError(
            f"the package is {told['Package']} {told['Version']} for {told['Architecture']}; "
            f"{claim.version} for {architecture} was signed"
        )
    installed = installed_version(board)
    if installed is None:
        raise UpdateError(f"{PACKAGE} is not installed here as a package; install it with apt")
    if is_older(claim.version, installed) and not claim.downgrade:
        raise UpdateError(
            f"{claim.version} is older than {installed}, which runs, and no downgrade was signed"
        )
    return installed


def is_older(version: str, than: str) -> bool:
    """By Debian's order of versions (deb-version(7))."""
    return run("dpkg", "--compare-versions", version, "lt", than).code == 0
