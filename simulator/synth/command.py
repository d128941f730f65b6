"""``milepost-sim synth``: write a synthetic drive."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from simulator.synth.drive import DEFAULT_START, RATES_HZ, Drive, DriveOptions, synthesise
from simulator.synth.frankfurt import ROUTES
from simulator.synth.models import MODELS
from simulator.synth.profiles import profile_names, profile_path
from simulator.synth.vehicle_file import (
    QUANTITIES,
    BusMap,
    MessageMap,
    Source,
    VehicleProfile,
    load_profile,
)

Command = TypeVar("Command", bound=Callable[..., Any])

_SIGNAL: Final = re.compile(
    r"(?P<message>\w+)\.(?P<signal>\w+)=(?P<quantity>[A-Za-z]\w*)?"
    r"(?:\*(?P<scale>[-+]?[\d.]+(?:[eE][-+]?\d+)?))?(?P<constant>[-+]?[\d.]+(?:[eE][-+]?\d+)?)?"
)


def drive_options(command: Command) -> Command:
    """What every synthetic drive is asked for."""
    for option in reversed(
        (
            click.option(
                "--seed", default=1, show_default=True, help="The same seed gives the same bytes."
            ),
            click.option(
                "--rate",
                "rate_hz",
                type=click.Choice([str(rate) for rate in RATES_HZ]),
                default="1",
                show_default=True,
                help="Fixes per second.",
            ),
            click.option(
                "--start",
                type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
                default=f"{DEFAULT_START:%Y-%m-%dT%H:%M:%SZ}",
                show_default=True,
                help="When the drive begins, UTC.",
            ),
            click.option(
                "--battery",
                type=click.FloatRange(0, 100),
                help="State of charge at the beginning, per cent.  [default: the vehicle's]",
            ),
            click.option(
                "--route",
                type=click.Choice(list(ROUTES)),
                default="frankfurt",
                show_default=True,
                help="The whole loop, or a hop of 400 m.",
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path),
                default=Path("drive"),
                show_default=True,
                help="Where to: OUT.nmea and OUT.candump are written.",
            ),
        )
    ):
        command = option(command)
    return command


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  milepost-sim synth --out drive             drive.nmea and drive.candump
  milepost-sim synth --seed 7 --rate 5 --out van-7
  milepost-sim demo --trace van-7.nmea --can van-7.candump
  milepost-sim synth can --vehicle e-bike --out e-bike
""",
)
@drive_options
@click.pass_context
def synth(
    context: click.Context,
    *,
    seed: int,
    rate_hz: str,
    start: datetime,
    battery: float | None,
    route: str,
    out: Path,
) -> None:
    """Make a drive: a GPS log (NMEA) and a CAN log (candump).

    A light electric van leaves its depot in Frankfurt am Main, loses the sky in a tunnel,
    leaves its operating area over the river, runs low on battery and charges at home.
    The CAN log is encoded by firmware-config/dbc/milepost-demo.dbc. For other vehicles and
    buses see `milepost-sim synth can --help`.
    """
    if context.invoked_subcommand is not None:
        return
    options = _options(
        seed=seed,
        rate_hz=rate_hz,
        start=start,
        battery_percent=DriveOptions().battery_percent if battery is None else battery,
        route=route,
    )
    _write(synthesise(options), out)


@synth.command(
    epilog=f"""\b
Examples:
  milepost-sim synth can --vehicle e-bike --out e-bike
  milepost-sim synth can --vehicle my-van.toml --seed 7
  milepost-sim synth can --dbc car.dbc --signal Motion.Speed=speed_kmh \\
      --signal 'Engine.Temperature=cabin_degc*10' --signal Body.Doors=0

\b
Vehicles: {", ".join(profile_names())}
Models:   {", ".join(MODELS)}

The drive's quantities: {", ".join(QUANTITIES)}.
An engine's are those of the models diesel-van and truck, a motor's of the others.
The file of a vehicle is described in docs/simulator.md.
"""
)
@click.option("--vehicle", help="What is on its buses: a name of the list below, or a TOML file.")
@click.option(
    "--dbc",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="In place of --vehicle: the DBC of one bus.",
)
@click.option(
    "--signal",
    "signals",
    multiple=True,
    metavar="MESSAGE.SIGNAL=QUANTITY[*SCALE]",
    help="With --dbc: what a signal takes, a quantity of the drive or a number; repeatable.",
)
@click.option(
    "--model",
    type=click.Choice(list(MODELS)),
    default="light-van",
    show_default=True,
    help="With --dbc: the physics of the vehicle.",
)
@drive_options
def can(
    *,
    vehicle: str | None,
    dbc: Path | None,
    signals: tuple[str, ...],
    model: str,
    seed: int,
    rate_hz: str,
    start: datetime,
    battery: float | None,
    route: str,
    out: Path,
) -> None:
    """Make a drive whose CAN log is encoded by any DBC, for one bus or several."""
    if (vehicle is None) is (dbc is None):
        raise click.UsageError("give --vehicle, or --dbc and --signal")
    if vehicle is not None:
        if signals:
            raise click.UsageError("--signal belongs to --dbc; a vehicle has its own map")
        chosen, profile = f"--vehicle {vehicle}", load_profile(profile_path(vehicle))
    else:
        mapped = " ".join(f"--signal {shlex.quote(signal)}" for signal in signals)
        chosen = f"--dbc {dbc} {mapped} --model {model}"
        profile = VehicleProfile(model=model, bus=(_bus(dbc or Path(), signals),))
    options = _options(
        seed=seed,
        rate_hz=rate_hz,
        start=start,
        battery_percent=profile.battery_percent if battery is None else battery,
        route=route,
    )
    _write(synthesise(options, profile, chosen=chosen), out)


def _options(
    *,
    seed: int,
    rate_hz: str,
    start: datetime,
    battery_percent: float,
    route: str,
) -> DriveOptions:
    return DriveOptions(
        seed=seed,
        rate_hz=int(rate_hz),
        start=start.replace(tzinfo=UTC),
        battery_percent=battery_percent,
        route=route,
    )


def _bus(dbc: Path, signals: tuple[str, ...]) -> BusMap:
    if not signals:
        raise click.UsageError("--dbc needs --signal MESSAGE.SIGNAL=QUANTITY, once or more")
    messages: dict[str, dict[str, Source]] = {}
    for text in signals:
        found = _SIGNAL.fullmatch(text.replace(" ", ""))
        quantity, constant = (found["quantity"], found["constant"]) if found else (None, None)
        if found is None or (quantity is None) is (constant is None):
            raise click.BadParameter(
                f"{text!r} is not MESSAGE.SIGNAL=QUANTITY, e.g. Motion.Speed=speed_kmh*0.621",
                param_hint="--signal",
            )
        source = Source(
            quantity=quantity,
            scale=float(found["scale"] or 1),
            constant=None if constant is None else float(constant),
        )
        messages.setdefault(found["message"], {})[found["signal"]] = source
    return BusMap(
        dbc=dbc, messages={name: MessageMap(signals=each) for name, each in messages.items()}
    )


def _write(drive: Drive, out: Path) -> None:
    for suffix, text in (("nmea", drive.nmea), ("candump", drive.candump)):
        if not text:
            continue
        path = out.with_name(f"{out.name}.{suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise click.ClickException(
                f"cannot write {path}: {error.strerror}\nhint: choose another --out"
            ) from error
        click.echo(f"{path}  {len(text) / 1000:.0f} kB")
    click.echo(
        f"{drive.length_km:.1f} km in {drive.duration_s / 60:.0f} min, "
        f"battery down to {drive.lowest_battery_percent:.1f} %"
    )
