"""Why provisioning failed: each cause with its exit code and whether to try again.

The table is also in docs/provisioning.md; scripts and units go by the codes, so they are
never given a new meaning.
"""

from __future__ import annotations

from enum import Enum

from agent.errors import AgentError


class Retry(Enum):
    """What ``--wait`` does about a failure."""

    NEVER = "never"
    """A person must change something on this board first."""

    SOON = "soon"
    """It is normal at a depot, and passes by itself."""

    SLOWLY = "slowly"
    """A person may change something in the cloud meanwhile."""


class Cause(Enum):
    """Each kind of failure: exit code, and what ``--wait`` does."""

    CLAIM_UNUSABLE = (10, Retry.NEVER)
    """The claim certificate or its key is missing, unreadable, expired, or not a pair."""

    CLOCK_NOT_SET = (11, Retry.SOON)
    """The board's clock stands before the certificates' first day."""

    NO_NETWORK = (12, Retry.SOON)
    """No network, no DNS, or nothing listens at the broker's address."""

    BROKER_NOT_TRUSTED = (13, Retry.SLOWLY)
    """The broker's certificate is not what ``broker.ca_file`` and ``broker.host`` promise."""

    CLAIM_REFUSED = (14, Retry.SLOWLY)
    """The broker refuses the claim certificate, e.g. since it was revoked."""

    NO_ANSWER = (15, Retry.SOON)
    """The connection was lost, or the service did not answer in time."""

    WRONG_TEMPLATE = (16, Retry.SLOWLY)
    """There is no such provisioning template, or the claim certificate may not use it."""

    REJECTED = (17, Retry.SLOWLY)
    """The service rejected the request, e.g. the serial number is not on the allow list."""

    BAD_ANSWER = (18, Retry.SLOWLY)
    """The service answered something that cannot be used."""

    STATE_UNUSABLE = (19, Retry.NEVER)
    """The state directory cannot be written, is full, or another provisioning runs."""

    KEY_UNUSABLE = (20, Retry.NEVER)
    """The vehicle's key, or the token that holds it, cannot be used."""

    def __init__(self, exit_code: int, retry: Retry) -> None:
        self.exit_code = exit_code
        self.retry = retry


class ProvisionError(AgentError):
    """Provisioning did not get to its end; what it got so far is kept for the next try.

    ``error_code`` is the service's own, e.g. ``AccessDenied``; ``""`` where it gave none.
    """

    def __init__(
        self,
        cause: Cause,
        message: str,
        *,
        hint: str = "",
        error_code: str = "",
        retry: Retry | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.error_code = error_code
        self.retry = retry or cause.retry
