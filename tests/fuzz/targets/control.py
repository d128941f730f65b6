"""Whatever answers on the control socket, ``ask`` gives an object or says ControlError."""

import json
import socket
import tempfile
import threading
from pathlib import Path

from agent.control import SOCKET_NAME, ask
from agent.errors import ControlError

ACCOUNT = {
    "vehicle_id": "van-1",
    "run_id": "f3a1c2d4",
    "connected": True,
    "mode": "in_trip",
    "dropped_messages": {"disk_full": 2},
    "backlog_messages": 3,
    "can": [{"channel": "can0", "frames": 10, "decoded": 9}],
}
SEEDS = [json.dumps(ACCOUNT).encode() + b"\n", b"{}", b"[1]", b""]
TOKENS = [f'"{key}":'.encode() for key in ACCOUNT]

FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")
_answer = [b""]


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(_answer[0])


def _listen() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(Path(FOLDER.name) / SOCKET_NAME))
    listener.listen(8)
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()


_listen()


def take(data: bytes) -> None:
    _answer[0] = data
    try:
        assert isinstance(ask(Path(FOLDER.name)), dict)
    except ControlError as error:
        str(error)
