"""What is known to be secret on this board: looked up in order to be left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.config.parts import ConfigParts
from agent.config.provision import CLAIM_FOLDER
from agent.diagnostics.redact import GONE, NAMES

LEAST_CHARACTERS: Final = 4
MOST_BYTES: Final = 64 * 1024

WIFI: Final = (
    ("/etc/NetworkManager/system-connections", "*"),
    ("/etc/wpa_supplicant", "*.conf"),
    ("/etc/netplan", "*.yaml"),
    ("/boot/firmware", "wpa_supplicant.conf"),
    ("/boot/firmware", "network-config"),
    ("/etc/ppp", "*-secrets"),
    ("/etc/hostapd", "*.conf"),
)
"""Where passwords of networks stand; readable for root alone, who also may make a bundle."""

_BESIDE: Final = re.compile(
    r"(?:psk|password|passphrase|wpa_passphrase|wep-key\d)\"?\s*[=:]\s*\"?([^\"\n]+?)\"?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def known_secrets(
    config_file: Path,
    parts: ConfigParts,
    *,
    environ: Mapping[str, str] = os.environ,
    root: Path = Path("/"),
) -> dict[str, str]:
    """Secret values and paths of keys, each with what is written in its place."""
    known: dict[str, str] = {}
    for key, path in _paths(parts):
        known[str(path)] = f"[path of {key}]"
        if not config_file.absolute().is_relative_to(path.parent):
            known[str(path.parent)] = f"[folder of {key}]"
        known.update(dict.fromkeys(_lines(path), GONE))
    for name, value in environ.items():
        if NAMES.fullmatch(name):
            known[value] = GONE
    for folder, pattern in WIFI:
        for path in _files(root / folder.lstrip("/"), pattern):
            known.update(dict.fromkeys(_BESIDE.findall(_read(path)), GONE))
    return {value: told for value, told in known.items() if len(value) >= LEAST_CHARACTERS}


def _paths(parts: ConfigParts) -> Iterator[tuple[str, Path]]:
    broker = parts.broker
    if broker is not None and broker.key_file is not None:
        yield "broker.key_file", broker.key_file
    token = broker.pkcs11 if broker is not None else None
    if token is not None:
        yield "broker.pkcs11.pin_file", token.pin_path
    claim = parts.settings.provision.claim_key_file if parts.settings is not None else None
    yield "provision.claim_key_file", claim or CLAIM_FOLDER / "key.pem"
    for path in (parts.state.dir / "identity").glob("**/key.pem"):
        yield "the identity's key", path


def _lines(path: Path) -> Iterable[str]:
    """Each line by itself: a PIN is one, and a log may hold a piece of a key."""
    lines = (line.strip() for line in _read(path).splitlines())
    return [line for line in lines if line and not line.startswith("-----")]


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_file())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
