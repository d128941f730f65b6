"""Files of jobs in the data directory: what vehicles fetch, and what they send.

::

    artifacts/<sha256>                      named by their digest, never changed
    uploads/<vehicle_id>/<job_id>.tar.gz    whole or not there, never replaced

Anything half written has a name that starts with a dot, and is removed when the store opens.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from cloud.errors import StoreError
from cloud.files import sync_folder
from contract.files import MAX_ARTIFACT_BYTES

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COPY_BYTES: Final = 1024 * 1024


class FileStore:
    """Safe from any thread and process."""

    def __init__(self, data_dir: Path) -> None:
        self._artifacts = data_dir / "artifacts"
        self._uploads = data_dir / "uploads"

    def add_artifact(self, source: Path) -> str:
        """Copy a file in; its digest. One that is there already stays.

        Raises:
            StoreError: it cannot be read or written, or is too large.
        """
        digest = hashlib.sha256()
        try:
            self._artifacts.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as file, _draft(self._artifacts) as (draft, path):
                while piece := file.read(_COPY_BYTES):
                    digest.update(piece)
                    draft.write(piece)
                    if draft.tell() > MAX_ARTIFACT_BYTES:
                        raise StoreError(
                            f"{source} has over {MAX_ARTIFACT_BYTES // 1024**2} MB",
                            hint="that is more than a vehicle takes",
                        )
                _finish(draft)
                path.replace(self._artifacts / digest.hexdigest())
        except OSError as error:
            raise StoreError(f"cannot take {source}: {error.strerror or error}") from error
        return digest.hexdigest()

    def artifact(self, sha256: str) -> Path | None:
        """Where the file with this digest is; ``None`` where there is none."""
        path = self._artifacts / sha256
        return path if _DIGEST.fullmatch(sha256) and path.is_file() else None

    def upload(self, vehicle_id: str, job_id: str) -> Path:
        """Where a vehicle's file for a job is, or will be.

        Raises:
            ValueError: this cannot be a job's id.
        """
        if not _JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is no job id")
        # vehicle_id comes from a certificate of ours or from the command line
        return self._uploads / vehicle_id.replace("/", "_").lstrip(".") / f"{job_id}.tar.gz"

    @contextmanager
    def receive(self, vehicle_id: str, job_id: str) -> Iterator[IO[bytes]]:
        """A file to write into; it is there when the block ends without an error.

        Raises:
            FileExistsError: the job has its file already; it stays as it is.
            OSError: it cannot be written.
        """
        target = self.upload(vehicle_id, job_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise FileExistsError(target)
        with _draft(target.parent) as (draft, path):
            yield draft
            _finish(draft)
            os.link(path, target)  # unlike a rename, never over another
            sync_folder(target.parent)

    def remove_drafts(self) -> None:
        """What an earlier process left half written; only while no other one writes."""
        for folder in (self._artifacts, *self._uploads.glob("*")):
            for draft in folder.glob(".draft.*"):
                draft.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Room on the file system."""
        return shutil.disk_usage(self._artifacts.parent).free


@contextmanager
def _draft(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".draft.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _finish(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
