"""Whether an operator names a vehicle that there is."""

from __future__ import annotations

from pathlib import Path

from cloud.errors import ConfigError


def check_vehicle(data_dir: Path, vehicle_id: str) -> None:
    """A mistyped id would make something that nobody ever asks for.

    Raises:
        ConfigError: this cloud has issued no certificate to it; names those it has.
    """
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next
    from cloud.pki import Authority  # noqa: PLC0415  slow

    if not (data_dir / "pki" / "ca").is_dir():
        return
    authority = Authority.open_or_create(data_dir / "pki", SystemClock().utc())
    known = sorted({one.vehicle_id for one in authority.issued()})
    if vehicle_id not in known:
        raise ConfigError(
            f"no certificate was issued to a vehicle {vehicle_id!r}",
            hint=f"Known: {', '.join(known) or 'none yet'}.",
        )
