"""Errors of the demo; see ``simulator.errors`` for the tree."""

from __future__ import annotations

from simulator.errors import SimulatorError


class DemoError(SimulatorError):
    """The demo cannot begin or go on, e.g. a process of it ended by itself."""


class Interrupted(Exception):  # noqa: N818  not a fault: somebody wants to stop
    """Somebody asked for the end before the beginning was over."""
