"""What the vehicle and the cloud agree on: messages, codecs and topics.

This package imports nothing else of Milepost and needs only pydantic.
"""

from contract.batch_codec import (
    decode_batch,
    decode_batch_rows,
    encode_batch,
    encode_batch_rows,
)
from contract.errors import ContractError
from contract.json_codec import (
    decode_event,
    decode_sample,
    decode_status,
    encode,
    validate_sample,
)
from contract.messages import (
    SCHEMA_VERSION,
    Acceleration,
    Battery,
    Diagnostics,
    DropTotal,
    Event,
    EventType,
    FixMode,
    Location,
    Mode,
    Motion,
    PreviousRun,
    Sample,
    Status,
    TimeQuality,
    VehicleState,
    VehicleStatus,
)
from contract.topics import MessageKind, Topics, parse_topic

__all__ = [
    "SCHEMA_VERSION",
    "Acceleration",
    "Battery",
    "ContractError",
    "Diagnostics",
    "DropTotal",
    "Event",
    "EventType",
    "FixMode",
    "Location",
    "MessageKind",
    "Mode",
    "Motion",
    "PreviousRun",
    "Sample",
    "Status",
    "TimeQuality",
    "Topics",
    "VehicleState",
    "VehicleStatus",
    "decode_batch",
    "decode_batch_rows",
    "decode_event",
    "decode_sample",
    "decode_status",
    "encode",
    "encode_batch",
    "encode_batch_rows",
    "parse_topic",
    "validate_sample",
]
