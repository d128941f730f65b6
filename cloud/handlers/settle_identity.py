"""A vehicle reports over one of its certificates: those that it no longer needs are retired.

Called by the status rule with the status and the ``certificate_id`` that it came with.
A vehicle reports each minute, so what was looked into lately is not looked into again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from cloud.clock import Clock
from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import LambdaEvent, LambdaResponse
from cloud.provisioning.ports import Identities
from cloud.provisioning.settlement import settle
from cloud.stores import Stores
from contract import VehicleState

LOOKED_INTO_FOR: Final = timedelta(hours=1)

log = logging.getLogger(__name__)


class SettleIdentity:
    """The handler."""

    def __init__(self, registry: Identities, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one status.

        Raises:
            StoreError: the registry cannot be asked or written; the event comes again.
        """
        del context
        vehicle_id, certificate_id = event.get("topic_vehicle_id"), event.get("certificate_id")
        if not isinstance(vehicle_id, str) or not isinstance(certificate_id, str):
            log.warning("a status without a certificate was passed over: %.200r", event)
            return None
        if event.get("state") != VehicleState.ONLINE:
            return None  # a last will may come long after the certificate's time
        now = self._clock.utc()
        looked_at = self._registry.settled_at(vehicle_id, certificate_id)
        if looked_at is not None and now - looked_at < LOOKED_INTO_FOR:
            return None
        for retired in settle(vehicle_id, certificate_id, self._registry, now):
            log.info(
                "%s: certificate %s retired, %s is in use", vehicle_id, retired, certificate_id
            )
        self._registry.note_settled(vehicle_id, certificate_id, now)
        return None


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return SettleIdentity(stores.registry, stores.clock)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(build, "REGISTRATIONS_TABLE")
