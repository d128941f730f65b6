"""Fetch and send files, whole or in pieces; slow links and breaks are the normal case.

A download goes on where it stopped, also in a later process. What it has is judged by its
digest when it is whole, so a server that answers with other bytes costs time and no more.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final
from urllib.parse import urljoin

from agent.transfer.connection import Broker, MeteredConnection, vehicle_context
from agent.transfer.errors import StoppedError, TransferError
from agent.transfer.urls import Place, UrlError, place_of
from agent.transport import WireMeter

TIMEOUT_S: Final = 30.0
"""For a connection, and for each piece after it."""
MAX_REDIRECTS: Final = 3
PIECE_BYTES: Final = 64 * 1024
_RETRY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

_log = logging.getLogger("agent.transfer")


class FileClient:
    """``broker`` is asked at each connection, because an identity may be rotated meanwhile.

    ``system_context`` judges all other servers, by default with the system's CAs.
    """

    def __init__(
        self,
        broker: Callable[[], Broker],
        *,
        system_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._broker = broker
        self._system_context = system_context
        self._timeout_s = timeout_s
        self._meter = WireMeter()

    def wire_bytes(self) -> int:
        """What the files have put on the wire so far, both ways and with every layer's share.

        0 where the kernel does not say.
        """
        return self._meter.total() or 0

    def download(
        self,
        url: str,
        target: Path,
        *,
        size_bytes: int,
        sha256: str,
        progress: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Fetch a file of known size and digest into ``target``, whose folder is there.

        What is fetched already stands in ``target`` with ``.part``, and counts. ``progress``
        is given the bytes that are there, and returns whether to go on.

        Raises:
            TransferError: it is not there yet, or cannot be.
            OSError: it could not be written.
        """
        part = target.with_name(target.name + ".part")
        with part.open("ab") as file:
            have = file.seek(0, os.SEEK_END)
            if have > size_bytes:
                have = file.truncate(0)
            if have < size_bytes:
                self._fetch(url, file, have, size_bytes, progress)
            file.flush()
            os.fsync(file.fileno())
        if digest_of(part) != sha256:
            part.unlink()
            raise TransferError(
                f"what {place_of(url).told} gives is not the file: its SHA-256 is another",
                retry=False,
            )
        part.replace(target)

    def upload(self, url: str, source: Path, *, progress: Callable[[int], bool]) -> None:
        """Send a file by PUT; one that is there already (409 of the broker's) is sent.

        Raises:
            TransferError: it was not taken.
            OSError: it could not be read.
        """
        place = place_of(url)
        size = source.stat().st_size
        with source.open("rb") as file:

            def pieces() -> Iterator[bytes]:
                while piece := file.read(PIECE_BYTES):
                    if not progress(file.tell()):
                        raise StoppedError
                    yield piece

            connection = self._connect(place)
            try:
                # the type is that of pre-signed URLs that name none
                headers = {"Content-Length": str(size)}
                try:
                    connection.request("PUT", place.target, body=pieces(), headers=headers)
                except (ConnectionError, ssl.SSLEOFError):
                    # one that refuses says why and hangs up before it has all
                    answer = connection.getresponse()
                else:
                    answer = connection.getresponse()
                text = _told(answer)
            except (OSError, http.client.HTTPException) as error:
                raise TransferError(
                    f"{place.told}: {_reason(error)}", retry=not _is_final(error)
                ) from error
            finally:
                connection.end()
        if place.host is None and answer.status == http.client.CONFLICT:
            return
        if not 200 <= answer.status < 300:
            raise TransferError(
                f"{place.told} answers {answer.status}: {text}", retry=answer.status in _RETRY
            )

    def _fetch(
        self,
        url: str,
        file: IO[bytes],
        have: int,
        size_bytes: int,
        progress: Callable[[int], bool],
    ) -> None:
        place = place_of(url)
        try:
            connection, answer = self._ask(place, have)
            try:
                if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE or (
                    answer.status == http.client.PARTIAL_CONTENT and _first_byte(answer) != have
                ):
                    file.truncate(0)
                    raise TransferError(f"{place.told} has another file now", retry=True)
                if answer.status == http.client.OK and have:
                    have = file.truncate(0)  # a server that knows no ranges
                if answer.status not in {http.client.OK, http.client.PARTIAL_CONTENT}:
                    raise TransferError(
                        f"{place.told} answers {answer.status}: {_told(answer)}",
                        retry=answer.status in _RETRY,
                    )
                while have < size_bytes:
                    if not progress(have):
                        raise StoppedError
                    piece = answer.read1(min(PIECE_BYTES, size_bytes - have))
                    if not piece:
                        raise TransferError(f"{place.told} broke off at {have} bytes", retry=True)
                    have += file.write(piece)
                progress(have)
            finally:
                connection.end()
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            raise TransferError(
                f"{place.told}: {_reason(error)}", retry=not _is_final(error)
            ) from error

    def _ask(self, place: Place, have: int) -> tuple[MeteredConnection, http.client.HTTPResponse]:
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        for _ in range(MAX_REDIRECTS + 1):
            connection = self._connect(place)
            try:
                connection.request("GET", place.target, headers=headers)
                answer = connection.getresponse()
            except BaseException:
                connection.end()
                raise
            if answer.status not in {301, 302, 303, 307, 308}:
                return connection, answer
            connection.end()
            place = _redirected(place, answer.getheader("Location", ""))
        raise TransferError(f"{place.told}: more than {MAX_REDIRECTS} redirections", retry=False)

    def _connect(self, place: Place) -> MeteredConnection:
        if place.host is not None:
            return MeteredConnection(
                place.host,
                place.port,
                timeout_s=self._timeout_s,
                context=self._system_context(),
                meter=self._meter,
            )
        broker = self._broker()
        return MeteredConnection(
            broker.host,
            place.port,
            timeout_s=self._timeout_s,
            context=vehicle_context(broker.credentials),
            meter=self._meter,
            server_name=broker.credentials.server_name,
        )


def digest_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _redirected(place: Place, location: str) -> Place:
    if place.host is None:
        raise TransferError(f"{place.told} wants to send us elsewhere", retry=False)
    base = f"https://{place.host}:{place.port}{place.target}"
    try:
        to = place_of(urljoin(base, location))
    except UrlError as error:
        raise TransferError(
            f"{place.told} redirects to what is refused: {error}", retry=False
        ) from error
    if to.host is None:
        raise TransferError(f"{place.told} redirects to the broker, which is refused", retry=False)
    return to


def _first_byte(answer: http.client.HTTPResponse) -> int | None:
    match = _CONTENT_RANGE.fullmatch(answer.getheader("Content-Range", ""))
    return int(match[1]) if match else None


def _told(answer: http.client.HTTPResponse) -> str:
    text = answer.read(500).decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or answer.reason


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _is_final(error: Exception) -> bool:
    """A certificate of the wrong CA or for another name stays wrong."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in {18, 19, 20, 62}
