"""Hashes of strings, in hexadecimal, and base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import orjson

from cloud.iotsql.functions.registry import Function, on_texts
from cloud.iotsql.values import UNDEFINED, Value, from_json, to_text

_BLOCK: Final = 16
_SUBSTITUTION: Final = bytes.fromhex(
    "292e43c9a2d87c013d3654a1ecf0061362a705f3c0c7738c98932bd9bc4c82ca"
    "1e9b573cfdd4e01667426f188a17e512be4ec4d6da9ede49a0fbf58ebb2fee7a"
    "a968799115b2073f94c210890b225f21807f5d9a5a903227353ecce7bff79703"
    "ff1930b348a5b5d1d75e922aac56aac64fb838d296a47db676fc6be29c7404f1"
    "459d705964718720865bcf65e62da8021b6025adaeb0b9f61c46616934407e0f"
    "5547a323dd51af3ac35cf9cebac5ea262c530d6e85288409d3dfcdf441814d52"
    "6adc37c86cc1abfa24e17b080cbdb14a7888958be363e86de9cbd5fe3b001d39"
    "f2efb70e6658d0e4a67772f8eb754b0a314450b48fed1f1adb998d339f118314"
)
"""A permutation of 0 to 255 made from the digits of pi (RFC 1319, section 3.2)."""


def _md2(content: bytes) -> str:
    """RFC 1319; hashlib has none."""
    padding = _BLOCK - len(content) % _BLOCK
    content += bytes([padding]) * padding
    checksum = bytearray(_BLOCK)
    last = 0
    for start in range(0, len(content), _BLOCK):
        for index in range(_BLOCK):
            checksum[index] ^= _SUBSTITUTION[content[start + index] ^ last]
            last = checksum[index]
    state = bytearray(3 * _BLOCK)
    content += checksum
    for start in range(0, len(content), _BLOCK):
        for index in range(_BLOCK):
            state[_BLOCK + index] = content[start + index]
            state[2 * _BLOCK + index] = content[start + index] ^ state[index]
        carry = 0
        for turn in range(18):
            for index in range(3 * _BLOCK):
                carry = state[index] = state[index] ^ _SUBSTITUTION[carry]
            carry = (carry + turn) % 256
    return state[:_BLOCK].hex()


def _hash(name: str) -> Function:
    def evaluate(text: str) -> Value:
        content = text.encode("utf-8", "surrogatepass")
        if name == "md2":
            return _md2(content)
        return hashlib.new(name, content, usedforsecurity=False).hexdigest()

    return on_texts(evaluate)


def encode_base64(value: Value) -> Value:
    """``encode(value, 'base64')``; bytes are the raw payload of ``*``."""
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    text = to_text(value)
    if text is None:
        return UNDEFINED
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def decode_base64(value: Value) -> Value:
    """``decode(value, 'base64')``: JSON when it is that, else text; Null when it is neither."""
    text = to_text(value)
    if text is None:
        return UNDEFINED
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        return from_json(orjson.loads(content))
    except (orjson.JSONDecodeError, RecursionError):
        pass
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


DIGEST: Final[dict[str, Function]] = {
    **{name: _hash(name) for name in ("md2", "md5")},
    **{name: _hash(name) for name in ("sha1", "sha224", "sha256", "sha384", "sha512")},
    "decode": lambda value, _scheme: decode_base64(value),
    "encode": lambda value, _scheme: encode_base64(value),
}
