"""Which certificates of a vehicle have served their time.

A vehicle that rotates has two for a while. Its first status over the new one proves that
it can use it: everything older retires. If it fell back to the old one, the new one was
given up; it retires when it has had time enough to be used. So none stays active that
nobody holds. A certificate that an operator carries to the board waits for its first use
however long that takes, and does not retire others by itself.

Pure; the same on AWS (Lambda ``settle_identity``, called by a rule) and on one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cloud.provisioning.ports import Identities, Identity

GIVEN_UP_AFTER: Final = timedelta(hours=2)
"""An ownership token's life and an hour for the vehicle's tries to connect."""


def retired_by(reporting: str, identities: Sequence[Identity], now: datetime) -> tuple[str, ...]:
    """The certificates that a status over the certificate ``reporting`` retires.

    ``identities`` are those ACTIVE or PENDING; a report over any other retires nothing.
    """
    current = next((one for one in identities if one.certificate_id == reporting), None)
    if current is None:
        return ()
    return tuple(
        one.certificate_id
        for one in identities
        if one.certificate_id != reporting
        and (
            current.provisioned
            if _order(one) < _order(current)
            else one.provisioned and now - one.created_at > GIVEN_UP_AFTER
        )
    )


def settle(vehicle_id: str, reporting: str, registry: Identities, now: datetime) -> tuple[str, ...]:
    """Retire what a vehicle's status over ``reporting`` shows to be done with; which.

    Raises:
        StoreError: the registry cannot be asked or written.
    """
    retired = retired_by(reporting, registry.identities(vehicle_id), now)
    if retired:
        registry.retire(vehicle_id, retired)
    return retired


def _order(one: Identity) -> tuple[datetime, str]:
    return one.created_at, one.certificate_id
