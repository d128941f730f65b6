"""How many samples go into one batch message: pure, learns from the batches it saw.

AWS IoT Core meters topic and payload together in steps of 5 KB (aws.amazon.com/iot-core/
pricing), so a full batch aims just under a multiple of that and never above 128 KB.
"""

from __future__ import annotations

from typing import Final

from contract.json_codec import MAX_MESSAGE_BYTES

METER_BYTES: Final = 5 * 1024
_FIRST_GUESS_BYTES_A_SAMPLE: Final = 60.0
_SLACK_BYTES: Final = 64
"""For the packet's own header."""

_AIM: Final = 0.97
_MEMORY: Final = 0.7


class BatchSizer:
    """``max_rows`` bounds the work of one encoding and of one loss, not the message."""

    def __init__(self, *, topic_bytes: int, max_rows: int = 512) -> None:
        self.max_rows = max_rows
        self._overhead = topic_bytes + _SLACK_BYTES
        self._bytes_a_sample = _FIRST_GUESS_BYTES_A_SAMPLE

    def rows(self, waiting: int) -> int:
        """How many of ``waiting`` samples to put into the next batch, at least 1."""
        most = min(waiting, self.max_rows)
        if most == waiting:
            # everything that is left: nothing is saved by leaving some for later
            return max(1, min(most, int(self._room(self._steps_limit()) / self._bytes_a_sample)))
        return max(1, min(most, int(self._target(most) * _AIM / self._bytes_a_sample)))

    def learn(self, rows: int, payload_bytes: int) -> None:
        """A batch of ``rows`` became so many bytes."""
        seen = payload_bytes / rows
        self._bytes_a_sample = _MEMORY * self._bytes_a_sample + (1 - _MEMORY) * seen

    def fits(self, rows: int, payload_bytes: int, waiting: int) -> bool:
        """Whether an encoded batch may go as it is."""
        if payload_bytes + self._overhead > MAX_MESSAGE_BYTES:
            return rows == 1
        whole = rows == waiting
        return whole or rows == 1 or payload_bytes <= self._target(min(waiting, self.max_rows))

    def fewer(self, rows: int, payload_bytes: int, waiting: int) -> int:
        """How many rows to try after a batch that did not fit."""
        goal = self._target(min(waiting, self.max_rows)) * _AIM
        return max(1, min(rows - 1, int(rows * goal / payload_bytes)))

    def _steps_limit(self) -> int:
        return MAX_MESSAGE_BYTES // METER_BYTES

    def _room(self, steps: int) -> int:
        return steps * METER_BYTES - self._overhead

    def _target(self, rows: int) -> int:
        steps = int((rows * self._bytes_a_sample + self._overhead) // METER_BYTES)
        return self._room(max(1, min(self._steps_limit(), steps)))
