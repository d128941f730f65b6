"""Listening sockets, bound before anything else starts, so that a port in use is told first."""

from __future__ import annotations

import errno
import socket
from typing import Final

from cloud.errors import ConfigError

BACKLOG: Final = 256


def bind(host: str, port: int, *, purpose: str, option: str) -> socket.socket:
    """A listening socket; port 0 is a free one. ``purpose`` and ``option`` are for the error.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen for {purpose} on {host}:{port}: {error.strerror or error}",
            hint=_hint(error, option),
        ) from error
    return listener


def _hint(error: OSError, option: str) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "give an address of this machine with --host; 0.0.0.0 is all of them"
    if error.errno == errno.EACCES:
        return f"choose {option} above 1023: lower ones are for root"
    return f"stop what uses it (ss -ltnp), or choose another {option}; 0 is a free one"
