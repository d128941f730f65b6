"""The agent's own account, as it tells it: by its control socket and at its end."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

CONTROL_SOCKET: Final = "agent.sock"
LAST_RUN: Final = "last-run.json"
TIMEOUT_S: Final = 1.0
CHUNK_BYTES: Final = 65_536


def ask(runtime_dir: Path) -> Json | None:
    """The account of a running agent; None when it does not answer (yet, or any more)."""
    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(TIMEOUT_S)
            control.connect(str(runtime_dir / CONTROL_SOCKET))
            while part := control.recv(CHUNK_BYTES):
                parts.append(part)
        account = json.loads(b"".join(parts))
    except (OSError, ValueError):
        return None
    return account if isinstance(account, dict) else None


def last_run(state_dir: Path) -> Json | None:
    """The account that an agent left at its orderly end; None when there is none."""
    try:
        account = json.loads((state_dir / LAST_RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return account if isinstance(account, dict) else None
