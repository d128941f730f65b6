"""``milepost-sim synth``: write a synthetic drive."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from simulator.synth.drive import DEFAULT_START, RATES_HZ, DriveOptions, synthesise


@click.command(
    epilog="""\b
Examples:
  milepost-sim synth --out drive             drive.nmea and drive.candump
  milepost-sim synth --seed 7 --rate 5 --out van-7
  milepost-sim demo --trace van-7.nmea --can van-7.candump
"""
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--rate",
    "rate_hz",
    type=click.Choice([str(rate) for rate in RATES_HZ]),
    default="1",
    show_default=True,
    help="Fixes per second.",
)
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
    default=f"{DEFAULT_START:%Y-%m-%dT%H:%M:%SZ}",
    show_default=True,
    help="When the drive begins, UTC.",
)
@click.option(
    "--battery",
    type=click.FloatRange(0, 100),
    default=DriveOptions().battery_percent,
    show_default=True,
    help="State of charge at the beginning, per cent.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("drive"),
    show_default=True,
    help="Where to: OUT.nmea and OUT.candump are written.",
)
def synth(seed: int, rate_hz: str, start: datetime, battery: float, out: Path) -> None:
    """Make a drive: a GPS log (NMEA) and a CAN log (candump).

    A light electric van leaves its depot in Frankfurt am Main, loses the sky in a tunnel,
    leaves its operating area over the river, runs low on battery and charges at home.
    The CAN log is encoded by firmware-config/dbc/milepost-demo.dbc.
    """
    drive = synthesise(
        DriveOptions(
            seed=seed,
            rate_hz=int(rate_hz),
            start=start.replace(tzinfo=UTC),
            battery_percent=battery,
        )
    )
    for suffix, text in (("nmea", drive.nmea), ("candump", drive.candump)):
        path = out.with_name(f"{out.name}.{suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii", newline="\n")
        except OSError as error:
            raise click.ClickException(
                f"cannot write {path}: {error.strerror}\nhint: choose another --out"
            ) from error
        click.echo(f"{path}  {len(text) / 1000:.0f} kB")
    click.echo(
        f"{drive.length_km:.1f} km in {drive.duration_s / 60:.0f} min, "
        f"battery down to {drive.lowest_battery_percent:.1f} %"
    )
