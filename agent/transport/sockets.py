"""The TLS socket under the MQTT client: few calls into OpenSSL, and its last error kept.

paho sends each packet and reads each few bytes by a call of its own, and each send becomes
a TLS record. Here a burst of publishes shares a record and a system call, and what is read
comes in chunks.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ECONNRESET
from typing import Any, Final

from agent.transport.wire import WireMeter, was_reset

_CHUNK_BYTES: Final = 4096


class BurstSocket(ssl.SSLSocket):
    """Non-blocking after the handshake; used by one thread."""

    last_error: OSError | None = None
    """What the MQTT client would turn into a bare "lost"."""

    meter: WireMeter | None = None

    _inbound = b""
    _outbound = b""
    _gathers = False

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  as overridden
        """Count the bytes of one that fails: nobody closes its socket, and they were paid for."""
        try:
            super().do_handshake(block)
        except OSError:
            self._count_last()
            raise

    def close(self) -> None:
        """Count its bytes and close."""
        self._count_last()
        super().close()

    def _count_last(self) -> None:
        if self.meter is not None:
            self.meter.closing(self)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """At most ``buflen`` bytes of what was read ahead, else of what OpenSSL gives now."""
        if not self._inbound:
            try:
                self._inbound = super().recv(_CHUNK_BYTES, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError as error:
                self.last_error = error
                raise
            if not self._inbound and was_reset(self):
                self.last_error = ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))
        piece, self._inbound = self._inbound[:buflen], self._inbound[buflen:]
        return piece

    def pending(self) -> int:
        """Bytes that can be read although no more may arrive."""
        return len(self._inbound) + super().pending()

    @contextmanager
    def burst(self) -> Iterator[None]:
        """What is sent inside goes out together at the end.

        Raises:
            OSError: the connection is lost.
        """
        self._gathers = True
        parts = self._parts = [self._outbound]
        try:
            yield
        finally:
            self._gathers = False
            self._outbound = b"".join(parts)
        self.flush()

    def send(self, data: Any, _flags: int = 0) -> int:
        """Take all of it; what does not go out at once is ``unsent``."""
        if self._gathers:
            self._parts.append(data)
        else:
            self._outbound += data
            self.flush()
        return len(data)

    @property
    def unsent(self) -> bool:
        """Whether ``flush`` has something to do once the socket can be written."""
        return bool(self._outbound)

    def flush(self) -> None:
        """Send what is ``unsent``, as far as the system takes it.

        Raises:
            OSError: the connection is lost.
        """
        while self._outbound:
            try:
                sent = super().send(self._outbound)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                # OpenSSL wants these bytes again; more may have come behind them by then
                return
            except OSError as error:
                self.last_error = error
                # the broker closed after its alert, which still waits to be read
                with contextlib.suppress(OSError):
                    self.recv(1)
                raise
            self._outbound = self._outbound[sent:]
