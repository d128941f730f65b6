"""Releases: the operator's signing key, and what it signs (``contract.release``)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import tarfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.errors import ConfigError
from cloud.files import write_atomically
from contract.release import PACKAGE, ReleaseStatement

PRIVATE: Final = "private.pem"
PUBLIC: Final = "public.pem"
MAX_CONTROL_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Release:
    """A signed package; the file beside it, and what a job carries."""

    package: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int
    downgrade: bool
    signature: str


def make_key(folder: Path) -> None:
    """``private.pem`` (0600) and ``public.pem``.

    Raises:
        ConfigError: there is a key already, or the folder cannot be written.
    """
    if (folder / PRIVATE).exists():
        raise ConfigError(
            f"{folder} holds a release key already", hint="name another folder by --out"
        )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / PRIVATE, private, 0o600)
        write_atomically(folder / PUBLIC, public, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror or error}") from error


def sign(package: Path, key_file: Path, *, downgrade: bool) -> Release:
    """Sign a package, whatever it is, as what it says of itself.

    Raises:
        ConfigError: the package or the key cannot be used; says why.
    """
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{key_file} cannot be used as a key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{key_file} is no Ed25519 key",
            hint="make one: milepost-cloud release keygen --out DIR",
        )
    fields = control_fields(package)
    if fields.get("Package") != PACKAGE:
        raise ConfigError(
            f"{package} is the package {fields.get('Package')}; vehicles take {PACKAGE} alone"
        )
    with package.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    statement = ReleaseStatement(
        PACKAGE, fields["Version"], fields["Architecture"], sha256, downgrade
    )
    signature = base64.b64encode(key.sign(statement.signed_bytes())).decode()
    return Release(**asdict(statement), size_bytes=package.stat().st_size, signature=signature)


def write_release(release: Release, path: Path) -> None:
    """The file beside a package.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(path, json.dumps(asdict(release), indent=1).encode() + b"\n", 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def read_release(path: Path, package: Path) -> Release:
    """The file beside a package, which must be of this package.

    Raises:
        ConfigError: it is not there, is broken, or is of another package.
    """
    try:
        release = Release(**json.loads(path.read_bytes()))
        with package.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is no signature of a release: {error}",
            hint=f"sign the package: milepost-cloud release sign {package} --key private.pem",
        ) from error
    if sha256 != release.sha256:
        raise ConfigError(
            f"{path} is of another file than {package}",
            hint=f"sign the package: milepost-cloud release sign {package} --key private.pem",
        )
    return release


def control_fields(package: Path) -> dict[str, str]:
    """What a .deb says of itself (deb(5), deb-control(5)), without dpkg.

    Raises:
        ConfigError: it is no .deb, or one that this does not read.
    """
    try:
        with package.open("rb") as file:
            text = _control(file)
    except (OSError, ValueError, KeyError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"{package} is no Debian package: {error}") from error
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "\t")))
    fields = {name: value.strip() for name, _, value in lines}
    if missing := {"Package", "Version", "Architecture"} - fields.keys():
        raise ConfigError(f"{package} does not say its {', '.join(sorted(missing))}")
    return fields


def _control(file: IO[bytes]) -> str:
    """Of the archive's second member (``ar``): control.tar, compressed by gzip or xz."""
    if file.read(8) != b"!<arch>\n":
        raise ValueError("it does not begin like one")
    while len(header := file.read(60)) == 60:
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if not name.startswith("control.tar"):
            file.seek(size + size % 2, 1)
            continue
        if size > MAX_CONTROL_BYTES:
            raise ValueError(f"its {name} has {size} bytes")
        with tarfile.open(fileobj=io.BytesIO(file.read(size))) as archive:
            member: Any = archive.extractfile("./control")
            return str(member.read(MAX_CONTROL_BYTES).decode("utf-8"))
    raise ValueError("it has no control.tar")
