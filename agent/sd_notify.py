"""Tell systemd how the agent is: READY, WATCHDOG, STOPPING, STATUS. No dependency.

The protocol is one datagram to the socket in ``NOTIFY_SOCKET`` (sd_notify(3)); a name
that starts with ``@`` is in the abstract namespace. Without that variable, or when the
socket is gone, nothing happens: the agent runs the same outside systemd.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class SystemdNotifier:
    """Sends to the service manager; every call is safe at any time."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]
        self._address = address if address.startswith(("/", "\0")) else ""
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
        self.watchdog_interval_s = _watchdog_interval_s(environ)
        """Send ``watchdog`` at least this often (half of the limit); None when not asked."""

    def ready(self) -> None:
        """Start-up is finished."""
        self._send("READY=1")

    def watchdog(self) -> None:
        """Alive and making progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """An orderly stop has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.splitlines()))

    def extend_timeout(self, duration_s: float) -> None:
        """Ask for so much time from now, e.g. for the final drain; the unit's limit if longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(duration_s * 1_000_000)}")

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            # the manager restarts, or its queue is full: the next one counts
            return


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    try:
        limit_us = int(environ.get("WATCHDOG_USEC", ""))
        meant_for = int(environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if limit_us <= 0 or meant_for != os.getpid():
        return None
    return limit_us / 2_000_000
