"""The archive as files below one folder; the key is the path.

A file is written beside its place, synced and renamed, so a reader sees whole objects
only, and the same key again replaces it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow.parquet as pq
from pyarrow import ArrowException

from cloud.errors import StoreError
from cloud.files import write_atomically


class FileArchive:
    """``Archive`` below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        """Store an object.

        Raises:
            StoreError: the file cannot be written, or the key leads out of the archive.
        """
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts:
            raise StoreError(f"the archive has no place for the key {key!r}")
        target = self.root.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, content, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error}", hint="Is the disk full?") from error

    def rows(self) -> int:
        """Rows in all Parquet files, read from their footers.

        Raises:
            StoreError: a file cannot be read.
        """
        total = 0
        for path in self.root.rglob("*.parquet"):
            try:
                total += pq.read_metadata(path).num_rows
            except (OSError, ArrowException) as error:
                raise StoreError(f"cannot read {path}: {error}") from error
        return total
