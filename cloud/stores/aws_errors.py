"""Errors of boto3, wrapped once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from cloud.errors import StoreError


@contextmanager
def wrapped(what: str, *, but: str | None = None) -> Iterator[None]:
    """Turn any error of botocore into a ``StoreError`` that names ``what``.

    A service's answer with the error code ``but`` stays a ``ClientError``, for the caller.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        if but is not None and isinstance(error, ClientError) and code_of(error) == but:
            raise
        raise StoreError(f"{what}: {error}") from error


def code_of(error: ClientError) -> str:
    """The service's error code, e.g. ``ConditionalCheckFailedException``."""
    return str(error.response.get("Error", {}).get("Code", ""))
