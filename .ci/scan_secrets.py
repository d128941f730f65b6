#!/usr/bin/env python3
"""Find secrets where none may be: ``python .ci/scan_secrets.py [PATH...]``.

Without a path: every file that git tracks. A path is a file, or a folder with all that is in
it; archives (tar, zip, gzip, Debian packages) are looked into, archives in them too. Exit
code 1 when something was found; what is printed names the place and the kind, never the
secret. A line that ends with ``not a secret`` and a reason is passed over in text files.

Its kinds are those that this project could spill: private keys (PEM, bare base64 or DER),
AWS credentials, tokens of registration and of common services, passwords in texts and URLs.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

MAX_DEPTH: Final = 5
MAX_BYTES: Final = 512 * 1024 * 1024
"""Of one unpacked archive; a larger one is reported, so that nothing passes unseen."""
MADE: Final = frozenset({".git", ".venv", ".tools", ".make", "build", "dist", "__pycache__"})
"""Folders that are no part of the sources."""
MIN_ENTROPY_BITS: Final = 3.2
"""A character; words and placeholders are below, what a generator made is above."""

_BASE64: Final = rb"[A-Za-z0-9+/=]"
# a header alone is how texts speak of keys: a key has a body, in logs with its breaks escaped
_PEM_BODY: Final = rb"(?:-----|\\r|\\n|[\s\"',+]){1,40}" + _BASE64 + rb"{40,}"


class Kind(NamedTuple):
    """What to look for. ``secret`` is the group whose entropy counts, 0 where none does."""

    name: str
    pattern: re.Pattern[bytes]
    secret: int = 0


KINDS: Final = (
    Kind("private key (PEM)", re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY" + _PEM_BODY)),
    # PKCS #8 of EC P-256 and of RSA, and SEC 1, as base64 begins them
    Kind(
        "private key (base64)", re.compile(rb"MIG[HT]AgEAM(?:BM|BA)GByqGSM49" + _BASE64 + rb"{60,}")
    ),
    Kind("private key (base64)", re.compile(rb"MII[A-Z][A-Za-z0-9+/]{2}IBADANBgkqhkiG9w0BAQEFAAS")),
    Kind("private key (base64)", re.compile(rb"MHcCAQEEI" + _BASE64 + rb"{60,}")),
    Kind(
        "private key (DER)",
        re.compile(
            rb"\x30\x81[\x80-\xff]\x02\x01\x00\x30[\x10-\x20]\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
        ),
    ),
    Kind(
        "private key (DER)",
        re.compile(
            rb"\x30\x82..\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04",
            re.DOTALL,
        ),
    ),
    Kind("AWS access key", re.compile(rb"\b(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b")),
    Kind(
        "AWS secret key",
        re.compile(
            rb"(?i:aws_?secret_?(?:access_?)?key)\W{1,6}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
        ),
        1,
    ),
    Kind(
        "ownership token",
        re.compile(
            rb"(?i:certificate_?ownership_?token)\W{1,8}((?=[A-Za-z_+/=.-]*\d)[A-Za-z0-9_+/=.-]{32,})"
        ),
        1,
    ),
    Kind("GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})")),
    Kind("PyPI token", re.compile(rb"\bpypi-AgEI[A-Za-z0-9_-]{50,}")),
    Kind("Slack token", re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
    Kind(
        "JSON web token", re.compile(rb"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[\w-]{20,}")
    ),
    Kind(
        "password in a URL",
        re.compile(rb"\b[a-z][a-z0-9+]{1,9}://[\w.-]{1,40}:([^\s:/@{}$<>\"']{6,})@[\w.-]"),
        1,
    ),
    Kind(
        "password or token",
        re.compile(
            rb"(?i:passw(?:or)?d|secret|api_?key|auth_?token)[\"']?\s{0,3}[:=]\s{0,3}[\"']((?=[^\"']*\d)[^\s\"'{}<>$%]{16,})[\"']"
        ),
        1,
    ),
)
_COMPRESSIONS: Final[Mapping[bytes, Any]] = {b"\x1f\x8b": gzip, b"\xfd7zXZ\0": lzma, b"BZh": bz2}
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNREADABLE: Final = (
    *(ValueError, OSError, EOFError, RuntimeError, zlib.error),
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
)
_ALLOWED: Final = re.compile(rb"not a secret\b.*$")


class Finding(NamedTuple):
    """Where a secret seems to be; ``line`` is 0 where there are no lines."""

    place: str
    line: int
    kind: str

    def __str__(self) -> str:
        """As it is printed."""
        return (
            f"{self.place}:{self.line}: {self.kind}" if self.line else f"{self.place}: {self.kind}"
        )


def scan(path: Path) -> Iterator[Finding]:
    """What is in a file, or in everything below a folder.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        for below in sorted(path.rglob("*")):
            if below.is_file() and not below.is_symlink():
                yield from scan_bytes(str(below), below.read_bytes())
    else:
        yield from scan_bytes(str(path), path.read_bytes())


def scan_bytes(place: str, content: bytes, depth: int = 0) -> Iterator[Finding]:
    """What is in a file's content; of an archive, what is in its files."""
    members = _members(content) if depth < MAX_DEPTH else None
    if members is None:
        yield from _matches(place, content)
        return
    try:
        for name, inner in members:
            yield from scan_bytes(f"{place}!{name}", inner, depth + 1)
    except _UNREADABLE as error:
        yield from _matches(place, content)
        yield Finding(place, 0, f"an archive that cannot be looked into ({error})")


def _matches(place: str, content: bytes) -> Iterator[Finding]:
    for kind in KINDS:
        for found in kind.pattern.finditer(content):
            if kind.secret and _entropy_bits(found.group(kind.secret)) < MIN_ENTROPY_BITS:
                continue
            end = content.find(b"\n", found.start())
            begin = content.rfind(b"\n", 0, found.start()) + 1
            line = content[begin : end if end >= 0 else len(content)]
            if _ALLOWED.search(line):
                continue
            is_text = b"\0" not in content
            yield Finding(
                place, content.count(b"\n", 0, found.start()) + 1 if is_text else 0, kind.name
            )


def _entropy_bits(secret: bytes) -> float:
    counts = Counter(secret).values()
    return -sum(n / len(secret) * math.log2(n / len(secret)) for n in counts)


def _members(content: bytes) -> Iterator[tuple[str, bytes]] | None:
    """The files in an archive; None when it is no archive."""
    if content.startswith(b"!<arch>\n"):
        return _ar_members(content)
    if content.startswith(b"PK\x03\x04"):
        return _zip_members(content)
    if content[257:262] == b"ustar":
        return _tar_members(content)
    if content.startswith((*_COMPRESSIONS, _ZSTD)):
        return _decompressed(content)
    return None


def _zip_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            _check_size(entry.file_size)
            yield entry.filename, archive.read(entry)


def _tar_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isfile() else None
            if file is not None:
                _check_size(entry.size)
                yield entry.name, file.read()


def _ar_members(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive, which a Debian package is (deb(5))."""
    at = 8
    while at + 60 <= len(content):
        header = content[at : at + 60]
        size = int(header[48:58])
        yield header[:16].decode(errors="replace").rstrip(" /"), content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def _decompressed(content: bytes) -> Iterator[tuple[str, bytes]]:
    module = next((one for magic, one in _COMPRESSIONS.items() if content.startswith(magic)), None)
    if module is None:
        raise ValueError("zstd; pack it with xz")
    with module.open(io.BytesIO(content)) as stream:
        unpacked: bytes = stream.read(MAX_BYTES + 1)
    _check_size(len(unpacked))
    yield "content", unpacked


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes and more; {MAX_BYTES} are looked at")


def tracked() -> list[Path]:
    """The files that git tracks below the working directory; without git, all but what is made."""
    # the tree may be somebody else's: continuous integration checks it out as another user
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        below = (path for path in Path().rglob("*") if not MADE.intersection(path.parts))
        return sorted(path for path in below if path.is_file() and not path.is_symlink())
    return [Path(name) for name in listed.split("\0") if name and Path(name).is_file()]


def main(arguments: Iterable[str]) -> int:
    """Scan; 1 when something was found."""
    paths = [Path(one) for one in arguments] or tracked()
    findings = [finding for path in paths for finding in scan(path)]
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    if findings:
        sys.stdout.write(
            f"{len(findings)} found. Take it out and make a new one: what was published is known. "
            "If it is none, end its line with a comment: not a secret, and why.\n"
        )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
