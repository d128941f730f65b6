"""The shadows' port: one implementation for AWS and one for a single machine.

One contract test suite runs on both. Both raise :class:`cloud.errors.StoreError` when the call
may succeed later. One machine's is safe to call from several threads and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Shadows(Protocol):
    """The vehicles' shadows as the operator sees them; documents as AWS IoT gives them.

    All raise :class:`cloud.errors.ShadowError` for what the service refuses.
    """

    def get(self, vehicle_id: str) -> dict[str, Any]:
        """State, metadata and version; the delta is part of the state."""
        ...

    def update(self, vehicle_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an update; the vehicle is told if it is connected."""
        ...

    def delete(self, vehicle_id: str) -> dict[str, Any]:
        """Delete the shadow; the vehicle keeps what it has until it asks again."""
        ...
