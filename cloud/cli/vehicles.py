"""Whether an operator names a vehicle that there is."""

from __future__ import annotations

from pathlib import Path

from cloud.cli.registry import opened_registry
from cloud.errors import ConfigError


def check_vehicle(data_dir: Path, vehicle_id: str) -> None:
    """A mistyped id would make something that nobody ever asks for.

    Raises:
        ConfigError: this cloud has issued no certificate to it; names those it has.
    """
    if not (data_dir / "pki" / "ca").is_dir():
        return
    with opened_registry(data_dir) as here:
        known = here.registry.vehicle_ids()
    if vehicle_id not in known:
        raise ConfigError(
            f"there is no vehicle {vehicle_id!r} with a certificate",
            hint=f"Known: {', '.join(known) or 'none yet'}.",
        )
