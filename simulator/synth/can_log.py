"""Vehicle states as a candump log: what each bus of a vehicle carries, frame by frame.

Each message has its own period and a phase of its own, so that frames do not fall on the
same instant, and every frame is up to a millisecond late, as on a real bus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from simulator.synth.cyclic import CyclicMessage, cyclic_messages
from simulator.synth.vehicle import VehicleState
from simulator.synth.vehicle_file import BusMap

LATEST_S: Final = 0.001


def candump_lines(
    states: Sequence[VehicleState],
    buses: Sequence[BusMap],
    rng: random.Random,
    *,
    start: datetime,
) -> Iterator[str]:
    """The log's lines in the order of their times; ``states`` are evenly spaced.

    Raises:
        FileError: a DBC cannot be read, or lacks what the map names.
    """
    messages = [one for bus in buses for one in cyclic_messages(bus, state=states[0])]
    if not messages:
        return
    step_s = states[1].time_s - states[0].time_s
    epoch_us = round(start.timestamp() * 1_000_000)
    due = [(message.phase_s, index) for index, message in enumerate(messages)]
    sent = [0] * len(messages)
    while True:
        due_s, index = min(due)
        position = int(due_s / step_s)
        if position >= len(states):
            return
        message = messages[index]
        data = message.data(states[position], sent[index])
        time_us = epoch_us + round((due_s + rng.random() * LATEST_S) * 1_000_000)
        yield _line(message, data, time_us)
        sent[index] += 1
        due[index] = (message.phase_s + sent[index] * message.period_s, index)


def _line(message: CyclicMessage, data: bytes, time_us: int) -> str:
    seconds, microseconds = divmod(time_us, 1_000_000)
    identifier = f"{message.frame_id:08X}" if message.extended else f"{message.frame_id:03X}"
    mark = "#" if len(data) <= 8 else "##0"
    text = f"{identifier}{mark}{data.hex().upper()}"
    return f"({seconds}.{microseconds:06d}) {message.channel} {text}"
