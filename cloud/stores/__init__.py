"""The stores behind the ports: AWS (``cloud.stores.aws``) and one machine (``.sqlite``)."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.clock import Clock
from cloud.ports import (
    AlertStore,
    Archive,
    AreaSource,
    DeadLetterStore,
    HotStore,
    LedgerStore,
    Metrics,
    Notifier,
    PositionStore,
    VehicleRegister,
)
from cloud.provisioning.ports import CloudRegistry


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Everything that the handlers are built from."""

    register: VehicleRegister
    hot: HotStore
    ledger: LedgerStore
    positions: PositionStore
    alerts: AlertStore
    notifier: Notifier
    archive: Archive
    dead_letters: DeadLetterStore
    metrics: Metrics
    areas: AreaSource
    registry: CloudRegistry
    clock: Clock
