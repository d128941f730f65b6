"""The archive and the operating areas in S3."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from cloud.areas import NO_AREAS, Areas, parse_areas
from cloud.clock import Clock
from cloud.errors import ConfigError, StoreError
from cloud.stores.aws_errors import wrapped

_log = logging.getLogger(__name__)

RENEW_S: Final = 300.0
_LOCATION: Final = re.compile(r"^(?:s3://)?(?P<bucket>[^/]+)/(?P<key>.+)$")


class S3Archive:
    """``Archive`` in one bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        with wrapped(f"s3://{self._bucket}/{key}"):
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentType="application/vnd.apache.parquet",
            )


class S3AreaSource:
    """``AreaSource``: a GeoJSON object, read anew every five minutes.

    While it cannot be read, or is wrong, the last good one stays in force.
    """

    def __init__(self, client: Any, location: str, clock: Clock) -> None:
        found = _LOCATION.match(location)
        if location and found is None:
            raise ConfigError(
                f"OPERATING_AREAS_S3 is {location!r}", hint="Write s3://bucket/key, or nothing."
            )
        self._client = client
        self._place = None if found is None else (found["bucket"], found["key"])
        self._clock = clock
        self._areas: Areas | None = NO_AREAS if found is None else None
        self._due_s = float("-inf")
        self._failing = False

    def current(self) -> Areas:
        """The areas in force.

        Raises:
            StoreError: they were never read, and cannot be now.
        """
        now_s = self._clock.monotonic_s()
        if self._place is not None and now_s >= self._due_s:
            try:
                self._areas = self._read(*self._place)
            except StoreError as error:
                if self._areas is None:
                    raise
                if not self._failing:
                    _log.warning("operating areas: %s; the last good ones stay in force", error)
                self._failing = True
            else:
                if self._failing:
                    _log.info("operating areas: recovered")
                self._failing = False
            self._due_s = now_s + RENEW_S
        return NO_AREAS if self._areas is None else self._areas

    def _read(self, bucket: str, key: str) -> Areas:
        source = f"s3://{bucket}/{key}"
        with wrapped(source):
            content = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            return parse_areas(content.decode(), source)
        except (ConfigError, UnicodeDecodeError) as error:
            # Somebody uploaded a wrong file; a right one will follow.
            raise StoreError(str(error)) from error
