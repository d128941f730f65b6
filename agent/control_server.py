"""The control socket of the running agent: tells how it is, and takes commands.

A client connects and may send one line, a JSON object with a ``command``; one that sends
nothing gets the account (:mod:`agent.account` and the engine's part). The answer is one
JSON object, ``{"error": …, "hint": …}`` where a command is refused. Only root and the user
that the agent runs as may connect: by the modes of folder and socket, and by the kernel's
word on who is on the other end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.errors import AgentError, StateError

LOG = logging.getLogger("agent.control")

SOCKET_NAME: Final = "agent.sock"
TIMEOUT_S: Final = 5.0
_MOMENT_S: Final = 0.25
"""Who has sent nothing for so long wants the account; ``control.ask`` says so at once."""

_MOST_BYTES: Final = 64 * 1024
_PEER: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""

Command = Callable[[dict[str, Any]], dict[str, Any]]
"""Given the line, gives the answer; raises ``AgentError`` to refuse. Any thread; returns soon."""


class ControlServer:
    """One thread that answers. ``start()`` once; ``stop()`` idempotent, safe before it."""

    def __init__(
        self,
        runtime_dir: Path,
        account: Callable[[], dict[str, Any]],
        commands: Mapping[str, Command] | None = None,
    ) -> None:
        self.path = runtime_dir / SOCKET_NAME
        self._account = account
        self._commands = dict(commands or {})
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; only the agent's own user can connect.

        Raises:
            StateError: the directory cannot be used, or another agent answers there.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clear_the_way()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(8)
        except OSError as error:
            raise StateError(
                f"state.runtime_dir: cannot listen on {self.path}: {error}",
                hint="Create the directory and give it to the user that the agent runs as.",
            ) from error
        self._socket = listener
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="control", daemon=True
        )
        self._thread.start()

    def _clear_the_way(self) -> None:
        """A socket file outlives the process that was killed; one that answers does not."""
        if not self.path.exists():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT_S)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()
                return
        raise StateError(
            f"state.runtime_dir: another agent answers on {self.path}",
            hint="Stop it first, or give this one a state.runtime_dir of its own.",
        )

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        listener, self._socket = self._socket, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept(2); close alone does not
        listener.close()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        self.path.unlink(missing_ok=True)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._socket is None:
                    return
                # out of file descriptors, e.g.: the caller gets nothing and asks again
                threading.Event().wait(1.0)
                continue
            with connection:
                connection.settimeout(TIMEOUT_S)
                try:
                    if _may_ask(connection):
                        connection.sendall(json.dumps(self._answer(connection)).encode() + b"\n")
                except OSError:
                    continue  # the caller went away
                except Exception:
                    LOG.exception("a question on the control socket could not be answered")

    def _answer(self, connection: socket.socket) -> dict[str, Any]:
        line = _read_line(connection)
        if not line:
            return self._account()
        try:
            request = json.loads(line)
            name = request["command"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return {"error": 'what was sent is no line like {"command": "…"}', "hint": ""}
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            known = ", ".join(sorted(self._commands)) or "none"
            return {"error": f"no such command: {name!r}", "hint": f"This agent knows: {known}."}
        try:
            return command(request)
        except AgentError as error:
            return {"error": error.message, "hint": error.hint}


def _may_ask(connection: socket.socket) -> bool:
    kept = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    uid = _PEER.unpack(kept)[1]
    if uid in {0, os.geteuid()}:
        return True
    LOG.warning("user %d may not ask on the control socket", uid)
    return False


def _read_line(connection: socket.socket) -> bytes:
    """What comes up to a line's end; nothing if it does not begin within a moment."""
    line = b""
    connection.settimeout(_MOMENT_S)
    with contextlib.suppress(TimeoutError):
        while b"\n" not in line and len(line) <= _MOST_BYTES:
            piece = connection.recv(4096)
            if not piece:
                break
            line += piece
    connection.settimeout(TIMEOUT_S)
    return line.partition(b"\n")[0].strip()
