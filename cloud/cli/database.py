"""How the operator's commands open the one-machine cloud's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.stores.database import Database


@contextmanager
def opened_database(data_dir: Path) -> Iterator[Database]:
    """The database of a data directory that is there.

    Raises:
        ConfigError: it is no data directory, or cannot be used.
    """
    from cloud.stores.database import Database  # noqa: PLC0415  slow
    from cloud.stores.schema import MIGRATIONS  # noqa: PLC0415  with it
    from cloud.stores.sqlite import DATABASE_NAME  # noqa: PLC0415  with it

    path = data_dir / DATABASE_NAME
    if not path.is_file():
        raise ConfigError(
            f"{data_dir} is no data directory of milepost-cloud",
            hint="Give the directory that `milepost-cloud serve --data` uses, or --aws.",
        )
    database = Database(path, MIGRATIONS, create=False)
    try:
        yield database
    finally:
        database.close()
