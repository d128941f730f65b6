"""The types of the messages' fields: what is accepted, and the form in which it is sent.

Types are strict: ``"68"`` is not a number. The one exception is ``vehicle_id``, where an
integer is accepted and becomes text.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

EARLIEST_TIMESTAMP: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A board without a clock may say 1970; ``time_quality`` then says ``unsynced``."""

MAX_SEQUENCE: Final = 2**53 - 1
"""The largest integer that every JSON implementation keeps exact (RFC 8259, section 6)."""


def format_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, the only form in which timestamps are sent."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _text_from_integer(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _utc_milliseconds(moment: datetime) -> datetime:
    offset = moment.utcoffset()
    if offset is None:
        msg = "timestamp has no zone; write UTC as ...Z"
        raise ValueError(msg)
    if offset:
        moment = moment.astimezone(UTC)
    # Not pydantic's UTC but Python's, since moments of one zone compare ten times as fast;
    # and not by ``replace``, which takes seven times as long.
    moment = datetime.combine(moment, moment.time(), UTC)
    finer = moment.microsecond % 1000
    if finer:
        moment = moment.replace(microsecond=moment.microsecond - finer)
    if moment < EARLIEST_TIMESTAMP:
        msg = "timestamp lies before 1970"
        raise ValueError(msg)
    return moment


VEHICLE_ID_PATTERN: Final = r"^[A-Za-z0-9:_-]{1,128}$"
"""The characters of an AWS IoT thing name, which are safe in a topic and as a client id."""

RUN_ID_PATTERN: Final = r"^[0-9a-f]{8,32}$"

VehicleId = Annotated[str, BeforeValidator(_text_from_integer), Field(pattern=VEHICLE_ID_PATTERN)]
RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
Sequence = Annotated[int, Field(ge=1, le=MAX_SEQUENCE)]
Timestamp = Annotated[
    datetime,
    AfterValidator(_utc_milliseconds),
    PlainSerializer(format_timestamp, return_type=str, when_used="json"),
]


def _finite(value: Any) -> Any:
    """NaN and Infinity are no JSON, and ``1e999`` reads as Infinity."""
    if type(value) is float and not math.isfinite(value):
        msg = "holds a number that is not finite"
        raise ValueError(msg)
    if type(value) is dict:
        for inner in value.values():
            _finite(inner)
    elif type(value) is list:
        for inner in value:
            _finite(inner)
    return value


SignalName = Annotated[str, Field(min_length=1, max_length=64)]
ShortText = Annotated[str, Field(max_length=256)]
Scalar = bool | int | float | ShortText
"""Order matters to nothing: types are strict, so ``1`` stays an integer."""

_frozen = ConfigDict(
    frozen=True, extra="allow", strict=True, allow_inf_nan=False, ser_json_inf_nan="null"
)


class Message(BaseModel):
    """What all messages and their groups have in common."""

    model_config = _frozen

    # fields of a newer agent: kept, but a number that no double holds would become null
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_finite)]] = Field(init=False)
