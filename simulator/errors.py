"""Errors of the simulator; each carries a hint that says what to do next.

::

    SimulatorError
    ├── TraceError       a position log cannot be used, e.g. it holds no position at all
    ├── FileError        a file of the simulator's own is wrong, e.g. a scenario names a fault
    │                    that there is not
    ├── CanLogError      a CAN log cannot be used, e.g. no line of it is a frame
    ├── ServerError      the gpsd server cannot listen, e.g. the port is taken
    ├── PortError        the serial port cannot be made, e.g. its link's folder is read-only
    ├── BusError         the CAN bus cannot be opened, e.g. there is no can0
    └── DemoError        the demo cannot go on, e.g. an agent of it ended by itself
                         (``simulator.demo.errors``)

    NmeaError            one line is not a usable sentence, e.g. its checksum is wrong;
                         never leaves ``read_trace``, which counts it
"""

from __future__ import annotations


class SimulatorError(Exception):
    """Something that the person at the desk can mend."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class TraceError(SimulatorError):
    """A position log cannot be used, e.g. it holds no position at all."""


class FileError(SimulatorError):
    """A TOML file or DBC cannot be used; the message has one line a fault, each with its key."""


class CanLogError(SimulatorError):
    """A CAN log cannot be used, e.g. no line of it is a frame."""


class ServerError(SimulatorError):
    """The gpsd server cannot listen, e.g. the port is taken."""


class PortError(SimulatorError):
    """The serial port cannot be made, e.g. the folder of its link is read-only."""


class BusError(SimulatorError):
    """The CAN bus cannot be opened or was lost, e.g. there is no ``can0``."""


class NmeaError(ValueError):
    """One line is not a usable sentence; the message is the reason, fit for a report."""
