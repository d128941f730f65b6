"""CAN frames for tests: by hand, and those of a recorded candump log."""

import re

from agent.sources.can.ids import can_id

_LINE = re.compile(r"\((?P<at>[\d.]+)\) \w+ (?P<id>[0-9A-F]+)#(?P<data>[0-9A-F]*)")


def frame(number, data=b"", *, extended=False):
    """One frame as the CAN sources hand it on; ``data`` may be a list of numbers."""
    data = bytes(data)
    return can_id(number, extended=extended), len(data), data


def frames_of(path):
    """Time in seconds and frame, for each line of a log that is one."""
    for line in path.read_text().splitlines():
        parts = _LINE.match(line)
        if parts:
            number = int(parts["id"], 16)
            data = bytes.fromhex(parts["data"])
            yield float(parts["at"]), frame(number, data, extended=len(parts["id"]) == 8)
