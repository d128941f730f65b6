"""Where files of jobs are for vehicles: in the one-machine cloud, or in a bucket on AWS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from cloud.errors import ConfigError, StoreError
from cloud.file_store import FileStore
from contract.files import artifact_path, broker_url, upload_path

MAX_PRESIGNED_S: Final = 7 * 86_400
"""What S3 takes; temporary credentials end sooner, and the URL with them."""


class JobFiles(Protocol):
    """Gives the URLs that job documents name; see ``contract.files``."""

    def publish(self, file: Path) -> str:
        """Put a file where vehicles can fetch it; its URL.

        Raises:
            StoreError: it could not be put there.
        """
        ...

    def upload_url(self, vehicle_id: str, job_id: str) -> str:
        """Where a vehicle sends its file for a job."""
        ...

    def place(self, vehicle_id: str, job_id: str) -> str:
        """Where an operator finds it then."""
        ...


class OneMachineFiles:
    """The file exchange of ``milepost-cloud serve``, at work or not."""

    def __init__(self, data_dir: Path, files_port: int | None = None) -> None:
        self._files = FileStore(data_dir)
        self._port = files_port or _port_in(data_dir)

    def publish(self, file: Path) -> str:
        """See the port."""
        return broker_url(self._port, artifact_path(self._files.add_artifact(file)))

    def upload_url(self, vehicle_id: str, job_id: str) -> str:
        """See the port; the vehicle's certificate says which vehicle it is."""
        del vehicle_id
        return broker_url(self._port, upload_path(job_id))

    def place(self, vehicle_id: str, job_id: str) -> str:
        """See the port."""
        return str(self._files.upload(vehicle_id, job_id))


class S3Files:
    """A bucket, by pre-signed URLs; the vehicles need no right of their own on it."""

    def __init__(self, s3: Any, bucket: str, *, expires_s: int = MAX_PRESIGNED_S) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._expires_s = expires_s

    def publish(self, file: Path) -> str:
        """See the port."""
        with file.open("rb") as content:
            key = f"artifacts/{hashlib.file_digest(content, 'sha256').hexdigest()}"
        with _of_aws(f"s3://{self._bucket}/{key}"):
            self._s3.upload_file(str(file), self._bucket, key)
            return self._signed("get_object", key)

    def upload_url(self, vehicle_id: str, job_id: str) -> str:
        """See the port."""
        with _of_aws(f"s3://{self._bucket}"):
            return self._signed("put_object", self._key(vehicle_id, job_id))

    def place(self, vehicle_id: str, job_id: str) -> str:
        """See the port."""
        return f"s3://{self._bucket}/{self._key(vehicle_id, job_id)}"

    @staticmethod
    def _key(vehicle_id: str, job_id: str) -> str:
        return f"uploads/{vehicle_id}/{job_id}.tar.gz"

    def _signed(self, action: str, key: str) -> str:
        return str(
            self._s3.generate_presigned_url(
                action, Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=self._expires_s
            )
        )


def _port_in(data_dir: Path) -> int:
    try:
        return int(json.loads((data_dir / "serve.json").read_bytes())["files_port"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"no cloud serves {data_dir}, so the port of its file exchange is not known",
            hint="start milepost-cloud serve, or give --files-port",
        ) from None


@contextmanager
def _of_aws(what: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error  # noqa: PLC0415  slow
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  with it

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise StoreError(
            f"{what}: {error}", hint="is the bucket there, in this region, and yours to write?"
        ) from error
