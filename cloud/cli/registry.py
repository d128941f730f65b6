"""How the commands open the one-machine cloud's authority and registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.clock import Clock
    from cloud.pki import Authority, Credentials
    from cloud.stores.database import Database
    from cloud.stores.sqlite_registry import SqliteRegistry


@dataclass(frozen=True, slots=True)
class OpenedRegistry:
    """What a command works with."""

    authority: Authority
    registry: SqliteRegistry
    database: Database
    clock: Clock


@contextmanager
def opened_registry(data_dir: Path, *, create: bool = False) -> Iterator[OpenedRegistry]:
    """Authority and registry of a data directory, made on first use with ``create``.

    Raises:
        ConfigError: it is none, or cannot be used.
    """
    from cloud.clock import SystemClock  # noqa: PLC0415  with the others
    from cloud.pki import Authority  # noqa: PLC0415  slow
    from cloud.stores.database import Database  # noqa: PLC0415  slow
    from cloud.stores.registry import open_registry  # noqa: PLC0415  with it
    from cloud.stores.schema import MIGRATIONS  # noqa: PLC0415  with it
    from cloud.stores.sqlite import DATABASE_NAME  # noqa: PLC0415  with it

    if not create and not (data_dir / "pki" / "ca").is_dir():
        raise ConfigError(
            f"there is no certificate authority in {data_dir}",
            hint="give the directory that `milepost-cloud serve --data` uses",
        )
    clock = SystemClock()
    authority = Authority.open_or_create(data_dir / "pki", clock.utc())
    database = Database(data_dir / DATABASE_NAME, MIGRATIONS, create=True)
    try:
        registry = open_registry(database, data_dir, clock)
        yield OpenedRegistry(authority, registry, database, clock)
    finally:
        database.close()


def check_key_folder(out: Path, *, force: bool) -> None:
    """Whether a key may be written to ``out``, before one is made that nobody would have.

    Raises:
        ConfigError: it may not.
    """
    near = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write to {out}", hint="name another folder by --out")
    if (out / "key.pem").exists() and not force:
        raise ConfigError(
            f"{out} holds a key already, perhaps the only copy",
            hint="name another folder by --out, or replace it with --force",
        )


def write_credentials(credentials: Credentials, out: Path) -> None:
    """Write ca.pem, certificate.pem and key.pem (0600).

    Raises:
        ConfigError: they cannot be written.
    """
    try:
        credentials.write_to(out)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {out}: {error.strerror or error}", hint="name another folder by --out"
        ) from error
