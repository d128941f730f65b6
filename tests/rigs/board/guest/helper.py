"""Runs in the guest: the rig's hands and its witness. Python's standard library only.

Port ``rig.control``: one JSON object a line, ``{"id", "argv", "timeout_s"}`` in,
``{"id", "code", "out"}`` back. Port ``rig.witness``: what the agent says of itself, again
and again; the host notes when each line came, so a power cut can be held against it.

``helper.py account`` prints what the agent says, whole and once.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

AGENT_SOCKET = "/run/milepost/agent.sock"
WITNESS_INTERVAL_S = 0.1
TOLD = (
    "run_id",
    "last_sequence",
    "connected",
    "samples_acknowledged",
    "events_acknowledged",
    "inherited_messages",
    "inherited_acknowledged",
    "backlog_messages",
    "dropped_messages",
    "flash_bytes_written",
    "first_publish_s",
    "time_quality",
    "waits_for_time",
    "uptime_s",
)


def port(name):
    """A virtio port, unbuffered; it is there once udev has named it."""
    while True:
        try:
            return Path(f"/dev/virtio-ports/{name}").open("r+b", buffering=0)
        except OSError:
            time.sleep(0.1)


def send(out, message):
    """One line, whole: an unbuffered port may take a part of it at a time."""
    data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[out.write(data) or 0 :]


def answer(command):
    try:
        done = subprocess.run(
            command["argv"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=command["timeout_s"],
            check=False,
        )
        code, out = done.returncode, done.stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        code, out = -1, str(error)
    return {"id": command["id"], "code": code, "out": out}


def serve():
    control = port("rig.control")
    send(control, {"hello": "rig"})
    rest = b""
    while True:
        data = control.read(65536)
        if not data:
            time.sleep(0.1)  # nobody is connected on the other side
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                send(control, answer(json.loads(line)))


def account():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(AGENT_SOCKET)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return json.loads(b"".join(pieces))


def witness():
    out = port("rig.witness")
    due = time.monotonic()
    while True:
        asked_s = time.monotonic()
        try:
            found = account()
        except (OSError, ValueError):
            found = None
        if found is not None:
            line = {name: found.get(name) for name in TOLD}
            line["asked_s"], line["boot_s"] = asked_s, time.monotonic()
            send(out, line)
        due = max(due + WITNESS_INTERVAL_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    if sys.argv[1:] == ["account"]:
        json.dump(account(), sys.stdout)
    else:
        threading.Thread(target=witness, daemon=True).start()
        serve()
