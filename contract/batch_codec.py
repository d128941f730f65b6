"""The batch format of ``telemetry/{vehicle_id}/batch``: many samples, few bytes.

::

    "MPB"  version(1)  deflate(body)                     RFC 1951, preset dictionary
    body = varint(samples) varint(columns) column*
    column = name values                                 values: see contract.columns
    name = varint(1 + index into KNOWN_PATHS)            a field of the contract
         | 0 json([key, …])                              any other path into the object

A sample is flattened to its leaves, so the format is lossless for any JSON object
whose numbers are doubles: fields of a newer agent pass through as they are. An empty
object or array is a leaf too. Decoding is bounded in samples, columns and bytes before
anything of that size is made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from contract.columns import ABSENT, read_column, write_column
from contract.errors import ContractError
from contract.json_codec import MAX_MESSAGE_BYTES, validate_sample
from contract.messages import Json, Sample
from contract.primitives import Reader, write_json, write_varint

MAGIC: Final = b"MPB\x01"
MAX_SAMPLES: Final = 10_000
MAX_COLUMNS: Final = 1_024
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_CELLS: Final = 1_000_000

Path = tuple[str, ...]

KNOWN_PATHS: Final[tuple[Path, ...]] = (
    ("schema_version",),
    ("vehicle_id",),
    ("run_id",),
    ("sequence",),
    ("timestamp",),
    ("time_quality",),
    ("location", "lat"),
    ("location", "lon"),
    ("location", "altitude"),
    ("location", "accuracy"),
    ("location", "fix_time"),
    ("battery", "percent"),
    ("battery", "voltage"),
    ("battery", "current"),
    ("battery", "temperature"),
    ("battery", "charging"),
    ("motion", "speed_kmh"),
    ("motion", "heading"),
    ("motion", "acceleration", "x"),
    ("motion", "acceleration", "y"),
    ("motion", "acceleration", "z"),
    ("vehicle_status", "locked"),
    ("vehicle_status", "in_use"),
    ("vehicle_status", "trip_id"),
    ("diagnostics", "odometer_km"),
    ("diagnostics", "error_codes"),
    ("diagnostics", "last_maintenance_km"),
    ("location", "fix_mode"),
    ("location", "satellites"),
    ("location", "hdop"),
)
"""Index = number on the wire. Append only."""

_INDEX_OF_PATH: Final = {path: index for index, path in enumerate(KNOWN_PATHS)}
_DICTIONARY: Final = (
    b'["signals","engine_rpm"]["signals","engine_status"]["signals","fuel_level_pct"]'
    b'["signals","coolant_temperature_c"]["signals","throttle_pct"]["signals","'
    b'"running""stopped""unsynced""ntp""gps"truefalsenull[]1'
)
"""Part of the format: a change needs a new version byte."""


def encode_batch(samples: Sequence[Sample]) -> bytes:
    """Encode samples in their order.

    Raises:
        ContractError: no sample, or more than ``MAX_SAMPLES``.
    """
    return encode_batch_rows(
        [sample.model_dump(mode="json", exclude_none=True) for sample in samples]
    )


def encode_batch_rows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Encode samples given as JSON objects, as the outbox keeps them."""
    if not 1 <= len(rows) <= MAX_SAMPLES:
        raise ContractError("batch", f"{len(rows)} samples; 1 to {MAX_SAMPLES} are allowed")
    columns: dict[Path, list[Any]] = {}
    for index, row in enumerate(rows):
        for path, value in _leaves(row, ()):
            column = columns.get(path)
            if column is None:
                column = columns[path] = [ABSENT] * len(rows)
            column[index] = value
    body = bytearray()
    write_varint(body, len(rows))
    write_varint(body, len(columns))
    for path, values in columns.items():
        known = _INDEX_OF_PATH.get(path)
        write_varint(body, 0 if known is None else known + 1)
        if known is None:
            write_json(body, path)
        write_column(body, values)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
    return MAGIC + deflate.compress(body) + deflate.flush()


def decode_batch(payload: bytes) -> tuple[Sample, ...]:
    """Decode a batch, all or nothing.

    Raises:
        ContractError: the bytes are no batch, or a sample in it is not valid.
    """
    samples = []
    for index, row in enumerate(decode_batch_rows(payload)):
        try:
            samples.append(validate_sample(row))
        except ContractError as error:
            raise ContractError(f"batch.{index}.{error.field}", error.reason) from None
    return tuple(samples)


def decode_batch_rows(payload: bytes) -> list[Json]:
    """The samples as JSON objects, not yet validated, so that one bad sample costs only itself.

    Raises:
        ContractError: the bytes are no batch.
    """
    reader = Reader(_inflate(payload))
    count = reader.varint()
    column_count = reader.varint()
    if (
        not 1 <= count <= MAX_SAMPLES
        or column_count > MAX_COLUMNS
        or count * column_count > MAX_CELLS
    ):
        raise ContractError("batch", f"claims {count} samples of {column_count} fields")
    rows: list[Json] = [{} for _ in range(count)]
    groups: dict[Path, list[Json | None]] = {(): [*rows]}
    for _ in range(column_count):
        path = _read_path(reader)
        group = groups.setdefault(path[:-1], [None] * count)
        _place(rows, group, path, read_column(reader, count))
    if not reader.at_end():
        raise ContractError("batch", "has bytes after its last column")
    return rows


def _inflate(payload: bytes) -> bytes:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ContractError(
            "batch", f"{len(payload)} bytes; at most {MAX_MESSAGE_BYTES} are allowed"
        )
    if not payload.startswith(MAGIC):
        raise ContractError("batch", "does not start with the batch format's mark and version")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY)
    try:
        body = inflate.decompress(payload[len(MAGIC) :], MAX_BODY_BYTES)
    except zlib.error:
        raise ContractError("batch", "is not deflate data") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise ContractError("batch", f"is cut short, or inflates to over {MAX_BODY_BYTES} bytes")
    if inflate.unused_data:
        raise ContractError("batch", "has bytes after its end")
    return body


def _leaves(value: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        here = (*path, key)
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, here)
        else:
            yield here, inner


def _read_path(reader: Reader) -> Path:
    index = reader.varint()
    if index > len(KNOWN_PATHS):
        raise ContractError("batch", f"names an unknown field {index}")
    if index:
        return KNOWN_PATHS[index - 1]
    path = reader.json()
    if not (isinstance(path, list) and path and all(isinstance(key, str) for key in path)):
        raise ContractError("batch", "holds a broken field name")
    return tuple(path)


def _place(rows: list[Json], group: list[Json | None], path: Path, values: list[Any]) -> None:
    """Put a column's values into the rows.

    ``group`` keeps each row's object that the path's last key belongs to, None until it is
    first needed: a row where every value of a group is absent has no such object.
    """
    *parents, last = path
    for index, value in enumerate(values):
        if value is not ABSENT:
            at = group[index]
            if at is None:
                at = group[index] = _object_at(rows[index], parents, path)
            if last in at:
                raise ContractError("batch", f"has two values at {'.'.join(path)}")
            at[last] = value


def _object_at(row: Json, parents: Sequence[str], path: Path) -> Json:
    at = row
    for key in parents:
        at = at.setdefault(key, {})
        if not isinstance(at, dict):
            raise ContractError("batch", f"has a value and an object at {'.'.join(path)}")
    return at
