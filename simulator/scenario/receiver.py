"""The receiver of a scenario's vehicle: behind gpsd, or on a serial line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from simulator.demo.cloud import HOST
from simulator.gpsd_server import GpsdServer
from simulator.nmea_player import NmeaPlayer
from simulator.receiver_log import read_receiver_log
from simulator.scenario.drive import Replayed
from simulator.scenario.model import Receiver

BAUD: Final = 38_400
"""Carries five fixes a second."""

LINK: Final = "gps0"


def receiver_of(wanted: Receiver, drive: Replayed, folder: Path) -> GpsdServer | NmeaPlayer | None:
    """A receiver that is not started; None where the vehicle has none.

    Raises:
        TraceError: the log has nothing that a receiver says.
    """
    if drive.trace is None or drive.nmea is None:
        return None
    if wanted is Receiver.GPSD:
        return GpsdServer(drive.trace)
    return NmeaPlayer(read_receiver_log(drive.nmea), baud=BAUD, link=folder / LINK)


def gps_section(receiver: GpsdServer | NmeaPlayer | None) -> dict[str, Any]:
    """``[gps]`` of the agent's config, once the receiver is started."""
    match receiver:
        case GpsdServer():
            return {"source": "gpsd", "host": HOST, "port": receiver.port}
        case NmeaPlayer():
            return {"source": "serial", "serial": {"device": receiver.line.port}}
        case None:
            return {"source": "none"}
