"""The cloud's errors.

::

    CloudError
    ├── ConfigError    a file or setting is wrong; nothing was started
    │                  e.g. fleet.toml gives a vehicle no type
    └── StoreError     a store could not be reached or refused; the same call may
                       succeed later, e.g. DynamoDB throttles, the disk is full

What a vehicle sent wrongly is no error here: it becomes a dead letter.
"""

from __future__ import annotations


class CloudError(Exception):
    """The root; ``hint`` says what an operator can do about it, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CloudError):
    """A file or setting is wrong; the message names file, field and value."""


class StoreError(CloudError):
    """A store failed; retry later. Library errors are wrapped into this at the edge."""
