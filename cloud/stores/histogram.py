"""Percentiles in bounded space: counts in buckets that grow by 1 % each.

A value is known to within 0.5 %. Values below ``SMALLEST`` (a clock a little behind gives
negative latencies) share the first bucket and read as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

GROWTH: Final = 1.01
SMALLEST: Final = 0.01
_LOG_GROWTH: Final = math.log(GROWTH)


def bucket_of(value: float) -> int:
    """The number of a value's bucket; 0 holds everything below ``SMALLEST``."""
    if value < SMALLEST:
        return 0
    return 1 + int(math.log(value / SMALLEST) / _LOG_GROWTH)


def value_of(bucket: int) -> float:
    """The middle of a bucket."""
    if bucket == 0:
        return 0.0
    return float(SMALLEST * GROWTH ** (bucket - 0.5))


def percentile(counts: Mapping[int, int], percent: float) -> float | None:
    """The value that ``percent`` % of the values do not exceed (nearest rank), or None."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(total * percent / 100))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_of(bucket)
    raise AssertionError("ranks end with the last bucket")  # pragma: no cover
