"""The file exchange's server: HTTPS on a port of its own, with the broker's certificates."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

from cloud.errors import JobsError
from cloud.serve.http import HttpServer
from contract.jobs import OperationName

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from cloud.file_store import FileStore
    from cloud.jobs.ports import Jobs
    from cloud.serve.file_exchange import HasJob, Principals

MAX_REQUESTS: Final = 64
"""At once; the others are told 503 and come again."""


def asks_for_file(jobs: Jobs) -> HasJob:
    """Whether a vehicle has a job that wants a file of it; the exchange's ``HasJob``."""

    def has_job(vehicle_id: str, job_id: str) -> bool:
        try:
            job = jobs.describe(job_id)
        except JobsError:
            return False
        return job.operation == OperationName.COLLECT_DIAGNOSTICS and any(
            one.vehicle_id == vehicle_id and not one.status.is_terminal for one in job.executions
        )

    return has_job


def file_server(
    listener: socket.socket,
    context: ssl.SSLContext,
    files: FileStore,
    principals: Principals,
    has_job: HasJob,
) -> HttpServer:
    """A server that was not started yet; ``context`` must ask for certificates."""

    def make_app() -> ASGIApp:
        from cloud.serve.file_exchange import file_exchange  # noqa: PLC0415  slow; in its thread

        return file_exchange(files, principals, has_job)

    def make_options() -> dict[str, Any]:
        from cloud.serve.file_exchange import CertificateProtocol  # noqa: PLC0415  likewise

        return {
            "http": CertificateProtocol,
            "ssl_context_factory": lambda *_: context,
            "limit_concurrency": MAX_REQUESTS,
            "server_header": False,
        }

    return HttpServer(listener, make_app, what="the file exchange", make_options=make_options)
