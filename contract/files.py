"""Where a job's files are: URLs in job documents.

``https://…`` is fetched from wherever it points to, e.g. a pre-signed URL of S3, judged by
the system's CAs and without the vehicle's certificate. ``broker://:PORT/…`` is the
one-machine cloud: HTTPS to the host that the vehicle itself calls its broker, with the
vehicle's own certificate, which so is never shown to anybody else.
"""

from __future__ import annotations

from typing import Final

BROKER_SCHEME: Final = "broker"
MAX_UPLOAD_BYTES: Final = 32 * 1024 * 1024
MAX_ARTIFACT_BYTES: Final = 1024 * 1024 * 1024


def artifact_path(sha256: str) -> str:
    """The path of a file by its digest, lower-case hexadecimal."""
    return f"/artifacts/{sha256}"


def upload_path(job_id: str) -> str:
    """The path that takes what a vehicle sends for a job."""
    return f"/uploads/{job_id}"


def broker_url(port: int, path: str) -> str:
    """A URL of the one-machine cloud, whatever a vehicle calls its host."""
    return f"{BROKER_SCHEME}://:{port}{path}"
