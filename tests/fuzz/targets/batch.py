"""A batch gives samples or ContractError, and never much more memory than a batch may have.

What does not begin with the format's mark is taken as a body before compression, so that
the search gets past the compressor.
"""

import zlib

from pydantic_core import to_json

from contract import ContractError, decode_batch, decode_batch_rows, encode_batch_rows
from contract.batch_codec import _DICTIONARY, MAGIC
from contract.primitives import MAX_EXPANDED_BYTES
from tests.fuzz.targets.messages import SAMPLE

ROWS = [
    {
        **SAMPLE,
        "sequence": number,
        "timestamp": f"2025-01-15T14:32:{number:02d}.000Z",
        "location": {"lat": 50.1 + number / 1e4, "lon": 8.68},
        "signals": {"engine_rpm": 800 + number * number, "engine_status": "run" + "n" * number},
        **({"odd": [number, None]} if number % 2 else {}),
    }
    for number in range(1, 6)
]


def body(payload: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY).decompress(payload[len(MAGIC) :])


def compressed(data: bytes) -> bytes:
    deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
    return MAGIC + deflate.compress(data) + deflate.flush()


SEEDS = [
    encode_batch_rows(ROWS),
    body(encode_batch_rows(ROWS)),
    body(encode_batch_rows(ROWS[:1])),
    body(encode_batch_rows([{"a": 0.5}, {"a": 1e300}, {"b": True}, {"b": {"c": []}}])),
]
TOKENS = [b"MPB\x01", b"true", b"null", b"[]", b'"\\ud800"']


def take(data: bytes) -> None:
    payload = data if data.startswith(MAGIC) else compressed(data)
    try:
        rows = decode_batch_rows(payload)
        some = rows[:100]
        size = sum(len(to_json(row)) for row in some) * len(rows) / len(some)
        assert size <= 2 * MAX_EXPANDED_BYTES, f"{len(payload)} bytes become {size:.0f}"
        for sample in decode_batch(payload):
            sample.model_dump_json()
    except ContractError as error:
        str(error)
