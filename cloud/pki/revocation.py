"""Which certificates are revoked: ``revoked.json``, read by the broker while it changes."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cloud.errors import ConfigError
from cloud.files import write_atomically


def read_revoked(path: Path) -> dict[str, str]:
    """Revoked serial numbers (lower-case hexadecimal) and when they were revoked.

    Raises:
        ConfigError: the file is there and cannot be read; who is revoked is then not known.
    """
    return {serial: str(entry["revoked_at"]) for serial, entry in _entries(path).items()}


def add_revoked(path: Path, vehicle_by_serial: Mapping[str, str], now: datetime) -> None:
    """Add serial numbers; one that is there keeps its moment.

    Raises:
        ConfigError: the file is there and cannot be read; nothing was changed.
    """
    with _locked(path.with_name("revoked.lock")):
        entries = _entries(path)
        for serial, vehicle_id in vehicle_by_serial.items():
            entries.setdefault(serial, {"vehicle_id": vehicle_id, "revoked_at": now.isoformat()})
        text = json.dumps(entries, indent=1, sort_keys=True) + "\n"
        write_atomically(path, text.encode(), 0o644)


def _entries(path: Path) -> dict[str, dict[str, str]]:
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
