"""One client of the replaying server: its socket, its policy, its unsent bytes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

from simulator import gpsd_reports as reports
from simulator.gpsd_commands import BadCommand, Command, CommandReader

MAX_UNSENT_BYTES: Final = 256 * 1024
"""Some minutes of reports at 1 Hz, beyond what the kernel keeps."""

_RECEIVE_BYTES: Final = 4096


class Client:
    """Only the server's thread touches it; the socket never blocks."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.connection = connection
        self.name = name
        self.watching = False
        self.json_on = False
        self.unsent = bytearray()
        self.too_slow = False
        self._commands = CommandReader()

    def receive(self) -> list[Command | BadCommand] | None:
        """The commands that arrived; ``None`` when the client has gone."""
        try:
            data = self.connection.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        return self._commands.feed(data) if data else None

    def send(self, data: bytes) -> bool:
        """Send as much as the socket takes now; ``False`` when the client must be closed."""
        self.unsent += data
        if self.unsent:
            try:
                del self.unsent[: self.connection.send(self.unsent)]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                return False
        self.too_slow = len(self.unsent) > MAX_UNSENT_BYTES
        return not self.too_slow

    def set_policy(self, wanted: Mapping[str, Any]) -> reports.Report | None:
        """Take over what ``?WATCH`` asks for; an ERROR, and no change, where it is malformed.

        As in gpsd, ``enable`` is true when it is not given with an argument, and reports
        are only sent with ``json``.
        """
        for name in ("enable", "json"):
            if not isinstance(wanted.get(name, False), bool):
                return reports.error(f"Invalid WATCH: {name} must be true or false")
        if wanted:
            self.watching = wanted.get("enable", True)
            self.json_on = wanted.get("json", self.json_on)
        return None
