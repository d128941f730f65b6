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
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import urljoin

from agent.errors import AgentError
from agent.transfer.urls import Place, UrlError, place_of
from agent.transport import Credentials

TIMEOUT_S: Final = 30.0
"""For a connection, and for each piece after it."""
MAX_REDIRECTS: Final = 3
PIECE_BYTES: Final = 64 * 1024
_RETRY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

_log = logging.getLogger("agent.transfer")


class TransferError(AgentError):
    """A file was not fetched or sent; ``retry``: the same later may succeed."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class StoppedError(TransferError):
    """The caller asked to stop; what was fetched stays for the next time."""

    def __init__(self) -> None:
        super().__init__("stopped", retry=True)


@dataclass(frozen=True, slots=True)
class Broker:
    """How the vehicle finds its broker, and who it is there."""

    host: str
    credentials: Credentials


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
                connection.close()
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
                connection.close()
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            raise TransferError(
                f"{place.told}: {_reason(error)}", retry=not _is_final(error)
            ) from error

    def _ask(
        self, place: Place, have: int
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        for _ in range(MAX_REDIRECTS + 1):
            connection = self._connect(place)
            try:
                connection.request("GET", place.target, headers=headers)
                answer = connection.getresponse()
            except BaseException:
                connection.close()
                raise
            if answer.status not in {301, 302, 303, 307, 308}:
                return connection, answer
            connection.close()
            place = _redirected(place, answer.getheader("Location", ""))
        raise TransferError(f"{place.told}: more than {MAX_REDIRECTS} redirections", retry=False)

    def _connect(self, place: Place) -> http.client.HTTPSConnection:
        if place.host is not None:
            return http.client.HTTPSConnection(
                place.host, place.port, timeout=self._timeout_s, context=self._system_context()
            )
        broker = self._broker()
        return _NamedConnection(broker, place.port, self._timeout_s)


class _NamedConnection(http.client.HTTPSConnection):
    """To the broker's host, whose certificate may be for ``broker.server_name``."""

    def __init__(self, broker: Broker, port: int, timeout_s: float) -> None:
        self._tls = vehicle_context(broker.credentials)
        self._server_name = broker.credentials.server_name
        super().__init__(broker.host, port, timeout=timeout_s, context=self._tls)

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._server_name)
        except BaseException:
            plain.close()
            raise


def vehicle_context(credentials: Credentials) -> ssl.SSLContext:
    """Mutual TLS with the broker's CA and the vehicle's own certificate.

    Raises:
        TransferError: the key cannot be used here.
    """
    if credentials.key_file is None:
        raise TransferError(
            "the key is in a PKCS#11 token, which files cannot be fetched with from this cloud",
            retry=False,
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=credentials.ca_file)
        context.load_cert_chain(
            credentials.certificate_file, credentials.key_file, password=lambda: b""
        )
    except (OSError, ssl.SSLError) as error:
        raise TransferError(
            f"the vehicle's identity cannot be used: {error}", retry=True
        ) from error
    return context


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
