"""Opening the registry of a data directory, with what an earlier version left there."""

from __future__ import annotations

from pathlib import Path

from cloud.clock import Clock
from cloud.pki.certificates import common_name_of
from cloud.pki.earlier import earlier_certificates, put_aside
from cloud.stores.database import Database
from cloud.stores.sqlite_registry import SqliteRegistry

PKI: str = "pki"


def open_registry(database: Database, data_dir: Path, clock: Clock) -> SqliteRegistry:
    """The registry; certificates that an earlier version kept as files are taken over.

    Raises:
        ConfigError: those files cannot be read.
        StoreError: the database cannot be written.
    """
    registry = SqliteRegistry(database, clock)
    folder = data_dir / PKI
    earlier = earlier_certificates(folder)
    for one in earlier:
        registry.take_over(one.certificate, common_name_of(one.certificate), revoked=one.revoked)
    if earlier:
        put_aside(folder)
    return registry
