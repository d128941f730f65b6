"""The cloud's errors.

::

    CloudError
    ├── ConfigError    a file or setting is wrong; nothing was started
    │                  e.g. fleet.toml gives a vehicle no type
    ├── StoreError     a store could not be reached or refused; the same call may
    │                  succeed later, e.g. DynamoDB throttles, the disk is full
    ├── ShadowError    the shadow service refuses a request, e.g. a version conflict
    ├── JobsError      the jobs service does, e.g. the job has ended already
    ├── FleetError     the registry refuses an operator, e.g. a serial number is there already
    └── CsrError       a certificate signing request is refused, e.g. its key is too short

What a vehicle sent wrongly is no error here: it becomes a dead letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloud.jobs.execution import Execution


class CloudError(Exception):
    """The root; ``hint`` says what an operator can do about it, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CloudError):
    """A file or setting is wrong; the message names file, field and value."""


class StoreError(CloudError):
    """A store failed; retry later. Library errors are wrapped into this at the edge."""


class ShadowError(CloudError):
    """A request about a shadow is refused; ``code`` is that of HTTP, as AWS IoT gives it."""

    def __init__(
        self, code: int, reason: str, *, client_token: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(f"{reason} ({code})", hint=hint)
        self.code = code
        self.reason = reason
        self.client_token = client_token


class JobsError(CloudError):
    """A request about a job is refused; ``code`` is a word of AWS IoT's, e.g. VersionMismatch.

    ``state`` is the execution as it stands, where the vehicle is told.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        *,
        state: Execution | None = None,
        client_token: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(f"{reason} ({code})", hint=hint)
        self.code = code
        self.reason = reason
        self.state = state
        self.client_token = client_token


class FleetError(CloudError):
    """What an operator wants of the registry cannot be done; nothing was changed."""


class CsrError(CloudError):
    """A certificate signing request is refused; the message goes on from "the request"."""
