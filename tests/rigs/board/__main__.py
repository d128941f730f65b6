"""``python -m tests.rig``."""

from tests.rig.cli import rig

rig(prog_name="python -m tests.rig")
