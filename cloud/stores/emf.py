"""Metrics to CloudWatch through the log: the embedded metric format, no call and no delay.

Source: Amazon CloudWatch user guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final, TextIO

from cloud.clock import Clock, milliseconds

NAMESPACE: Final = "Milepost"
MAX_VALUES: Final = 100
"""What one metric of one log line may hold."""


class EmfMetrics:
    """``Metrics``: one line of JSON for up to 100 values."""

    def __init__(self, clock: Clock, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = stream

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Write one value; labels become dimensions."""
        self._write(name, [value], labels)

    def observe_all(self, name: str, values: Sequence[float]) -> None:
        """Write several values."""
        for start in range(0, len(values), MAX_VALUES):
            self._write(name, list(values[start : start + MAX_VALUES]), {})

    def _write(self, name: str, values: list[float], labels: dict[str, str]) -> None:
        metric: dict[str, Any] = {"Name": name}
        if name.endswith("_ms"):
            metric["Unit"] = "Milliseconds"
        line = {
            "_aws": {
                "Timestamp": milliseconds(self._clock.utc()),
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [list(labels)], "Metrics": [metric]}
                ],
            },
            **labels,
            name: values,
        }
        stream = sys.stdout if self._stream is None else self._stream
        stream.write(json.dumps(line) + "\n")
        stream.flush()
