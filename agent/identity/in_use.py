"""The identity in use: which it is, how long it counts, when its successor is due."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from agent.config import IdentitySettings
from agent.errors import AgentError
from agent.identity.due import Validity, due_at, why_due
from agent.identity.key_process import KeyProcess
from agent.identity.records import Identity
from agent.identity.store import IdentityStore
from agent.ports import Clock
from agent.transport import Credentials, certificate_facts
from contract import TimeQuality
from contract.fields import format_timestamp

LOG = logging.getLogger("agent.identity")

KEEP: Final = timedelta(days=7)
"""A predecessor stays on disk for so long, though the cloud retired it within a minute."""


class InUse:
    """Changed by the rotation's thread, read from any; ``like`` has the CA and the names."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: IdentityStore,
        keys: KeyProcess,
        settings: IdentitySettings,
        like: Credentials,
    ) -> None:
        self._clock = clock
        self._store = store
        self._keys = keys
        self._settings = settings
        self._like = like
        self._identity: Identity | None = None
        self._validity: Validity | None = None

    def learn(self) -> None:
        """Read it from the disk."""
        try:
            identity = self._store.current()
            self._validity = validity_of(identity, self._like, self._keys) if identity else None
            self._identity = identity
        except AgentError as error:
            LOG.warning("when the certificate expires is not known: %s", error.message)

    @property
    def certificate_id(self) -> str:
        """As the cloud knows it; empty before ``learn``."""
        identity = self._identity
        return identity.certificate_id if identity else ""

    def why_due(self) -> str | None:
        """Why its successor is due, in words; ``None`` if not, or if nobody knows the time."""
        validity = self._validity
        if validity is None or not self._knows_time():
            return None
        return why_due(validity, self._settings, self._clock.utc())

    def has_expired(self) -> bool:
        """Whether it certainly has."""
        validity = self._validity
        return (
            validity is not None and self._knows_time() and self._clock.utc() > validity.not_after
        )

    def account(self) -> dict[str, Any] | None:
        """What there is to tell of it; ``None`` before ``learn``."""
        identity, validity = self._identity, self._validity
        if identity is None:
            return None
        due = due_at(validity, self._settings) if validity else None
        return {
            "certificate_id": identity.certificate_id,
            "obtained_at": identity.obtained_at,
            "template": identity.template,
            "valid_until": format_timestamp(validity.not_after) if validity else None,
            "rotation_due_at": format_timestamp(due) if due else None,
        }

    def remove_predecessors(self) -> None:
        """Remove the last one when it has been out of use for long, older ones at once."""
        validity = self._validity
        if self._identity is None or not self._knows_time():
            return
        with contextlib.suppress(AgentError):
            others = self._store.others()
            since = validity.obtained_at if validity else None
            keeps_last = since is not None and self._clock.utc() - since < KEEP
            outdated = others[:-1] if keeps_last else others
            if outdated:
                with self._store.locked():
                    for one in outdated:
                        self._destroy_key(one)
                        self._store.remove(one.generation)
                        LOG.info("removed the retired certificate %.12s…", one.certificate_id)

    def _destroy_key(self, of: Identity) -> None:
        if of.key_label is None:
            return
        try:
            self._keys.destroy(of.key_label)
        except AgentError as error:
            LOG.warning("the key %r stays in its token: %s", of.key_label, error.message)

    def _knows_time(self) -> bool:
        return self._clock.quality() is not TimeQuality.UNSYNCED


def validity_of(identity: Identity, like: Credentials, keys: KeyProcess) -> Validity:
    """When it is valid. ``like`` has the CA to read it with.

    Raises:
        IdentityError: certificate and key cannot be used together, or not be read.
    """
    if identity.key_file is None:
        return Validity(*keys.days(identity.certificate_file), _moment(identity.obtained_at))
    facts = certificate_facts(
        replace(like, certificate_file=identity.certificate_file, key_file=identity.key_file)
    )
    return Validity(facts.not_before, facts.not_after, _moment(identity.obtained_at))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
