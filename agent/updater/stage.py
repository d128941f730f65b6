"""Stage the program that carries an update out, where dpkg does not replace it."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Final

from agent.updater.board import Board, UpdateError
from agent.updater.journal import write_durably

CARRIED: Final = ("__init__", "board", "carry_out", "health", "inbox", "journal")
_MAIN: Final = """\
import pathlib, signal, sys
from agent.updater.carry_out import main
for number in (signal.SIGHUP, signal.SIGINT):  # a terminal that is closed ends no update
    signal.signal(number, signal.SIG_IGN)
sys.exit(main(pathlib.Path(sys.argv[0]).resolve().parent))
"""


def stage(board: Board) -> None:
    """Write ``updater.pyz``, executable, durable, of this version.

    Raises:
        UpdateError: there is no Python outside of the package.
        OSError: it cannot be written.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr("agent/__init__.py", "")
        for name in CARRIED:
            source = Path(__file__).with_name(f"{name}.py").read_bytes()
            archive.writestr(f"agent/updater/{name}.py", source)
    # -I: neither the caller's environment nor a user's packages count
    shebang = f"#!{_interpreter()} -I\n".encode()
    write_durably(board.program, shebang + packed.getvalue(), mode=0o755)


def _interpreter() -> str:
    """The Python that the virtual environment was made of."""
    own = Path(sys.executable).resolve()
    system = Path("/usr/bin/python3")
    if not own.is_relative_to(sys.prefix) or sys.prefix == sys.base_prefix:
        return str(own)
    if system.exists():
        return str(system.resolve())
    raise UpdateError("there is no Python outside of the package to carry the update out with")
