"""The file exchange: HTTPS beside MQTT, for what is too large for a message.

::

    GET /artifacts/<sha256>   to any vehicle; with ``Range``, to go on after a break
    PUT /uploads/<job_id>     from the vehicle that has this job, once

A vehicle is who its certificate says, as at the broker. 403: it may not; 404: no such
file, or no such job of this vehicle; 409: the job has its file; 411, 413: too large.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from cloud.file_store import FileStore
from contract.files import MAX_UPLOAD_BYTES, artifact_path, upload_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

UPLOAD_TIMEOUT_S: Final = 3_600.0
MIN_FREE_BYTES: Final = 256 * 1024 * 1024
"""Below this the room is left to the vehicles' samples."""
_CERTIFICATE: Final = "milepost.certificate_der"

log = logging.getLogger(__name__)


class Principals(Protocol):
    """Who shows a certificate."""

    def vehicle_of(self, certificate_der: bytes) -> str | None:
        """The vehicle whose active certificate this is; ``None``: nobody who may come in."""
        ...


HasJob = Callable[[str, str], bool]
"""Whether a vehicle (its id) has a job (its id) under way that asks it for a file."""


class CertificateProtocol(H11Protocol):
    """HTTP/1.1 that tells the application which certificate its client showed.

    uvicorn has no TLS extension of ASGI yet.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See the base class."""
        super().connection_made(transport)
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        inner: Any = self.app

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, _CERTIFICATE: certificate}, receive, send)

        self.app = told


def file_exchange(files: FileStore, principals: Principals, has_job: HasJob) -> ASGIApp:
    """The application."""

    def vehicle(request: Request) -> str | None:
        certificate: bytes | None = request.scope.get(_CERTIFICATE)
        vehicle_id = principals.vehicle_of(certificate) if certificate else None
        if vehicle_id is None:
            log.warning(
                "refused %s %s to %s: its certificate is not an active one of a vehicle",
                request.method,
                request.url.path,
                request.client.host if request.client else "an unknown address",
            )
        return vehicle_id

    def artifact(request: Request) -> Response:
        vehicle_id = vehicle(request)
        if vehicle_id is None:
            return _answer(403, "this certificate is not an active one of a vehicle")
        sha256 = request.path_params["sha256"]
        path = files.artifact(sha256)
        if path is None:
            return _answer(404, "no such file")
        # the name is the digest: the same name is the same file, whatever its dates are
        return FileResponse(
            path, headers={"etag": f'"{sha256}"'}, media_type="application/octet-stream"
        )

    async def upload(request: Request) -> Response:
        vehicle_id = await asyncio.to_thread(vehicle, request)
        job_id = request.path_params["job_id"]
        if vehicle_id is None:
            return _answer(403, "this certificate is not an active one of a vehicle")
        if not await asyncio.to_thread(has_job, vehicle_id, job_id):
            log.warning("refused an upload of %s: it has no such job %s", vehicle_id, job_id)
            return _answer(404, "no such job of this vehicle waits for a file")
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return _answer(411, "the length must be told")
        if int(length) > MAX_UPLOAD_BYTES:
            return _answer(413, f"at most {MAX_UPLOAD_BYTES} bytes")
        if files.free_bytes() < MIN_FREE_BYTES + int(length):
            log.error("an upload of %s is refused: the disk is nearly full", vehicle_id)
            return _answer(507, "no room")
        return await _take(files, request, vehicle_id, job_id)

    return Starlette(
        routes=[
            Route(artifact_path("{sha256}"), artifact, methods=["GET"]),
            Route(upload_path("{job_id}"), upload, methods=["PUT"]),
        ]
    )


async def _take(files: FileStore, request: Request, vehicle_id: str, job_id: str) -> Response:
    length = int(request.headers["content-length"])
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            with files.receive(vehicle_id, job_id) as file:
                async for piece in request.stream():  # h11 holds it to its length
                    await asyncio.to_thread(file.write, piece)
                if file.tell() != length:
                    raise ClientDisconnect  # noqa: TRY301  as when it hangs up sooner
    except FileExistsError:
        return _answer(409, "the job has its file already")
    except ValueError:
        return _answer(404, "no such job of this vehicle waits for a file")
    except (ClientDisconnect, TimeoutError):
        log.warning("the upload of %s for %s broke off", vehicle_id, job_id)
        return _answer(400, "broke off")
    except OSError as error:
        log.error("the upload of %s cannot be kept: %s", vehicle_id, error)  # noqa: TRY400  its reason is enough
        return _answer(507, "cannot be kept")
    log.info("%s sent %d bytes for %s", vehicle_id, length, job_id)
    return _answer(201, "taken")


def _answer(code: int, words: str) -> Response:
    return PlainTextResponse(words + "\n", status_code=code)
