"""``python -m tests.rigs.board``."""

from tests.rigs.board.cli import rig

rig(prog_name="python -m tests.rigs.board")
