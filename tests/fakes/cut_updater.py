"""The updater as a process whose power is cut at its Nth moment.

``python cut_updater.py BOARD.json N COMMAND``: COMMAND is ``take`` (service and staged
program in one) or ``resume`` (the staged program). A moment is just before and just after
everything that lasts: a file that is replaced, renamed, removed, linked or synced, and a
program that was run. Exit code 137: cut off; its children are killed with it.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.updater import __main__ as service
from agent.updater import carry_out
from agent.updater.board import Board

moments = {"left": int(sys.argv[2])}


def moment():
    if moments["left"] == 0:
        os.killpg(0, signal.SIGKILL)
    moments["left"] -= 1


def watched(function):
    def call(*arguments, **options):
        moment()
        try:
            return function(*arguments, **options)
        finally:
            moment()

    return call


def main():
    os.setpgid(0, 0)
    board = Board.from_json(json.loads(Path(sys.argv[1]).read_text()))
    real_run = subprocess.run

    def run(command, **options):
        options.pop("start_new_session", None)  # the power of a child is cut as well
        return real_run(command, **options)

    subprocess.run = watched(run)
    for module, name in ((Path, "replace"), (os, "rename"), (os, "fsync"), (os, "unlink")):
        setattr(module, name, watched(getattr(module, name)))
    if sys.argv[3] == "take" and not service.take(board):
        return 3
    return carry_out.main(board.home)


sys.exit(main())
