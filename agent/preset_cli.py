"""``milepost-agent preset`` and ``milepost-agent init``: begin with a config that fits."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import click

from agent.cli_common import PROGRAM, fail
from agent.config.provision import CLAIM_FOLDER
from agent.errors import AgentError
from agent.preset import BROKER_HOST, CONFIG_FILE, find, install, presets
from contract.fields import VEHICLE_ID_PATTERN

DEFAULT_FOLDER: Final = Path("/etc/milepost")


def _vehicle_id(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(VEHICLE_ID_PATTERN, text):
        raise click.BadParameter(f"{text!r} must have 1 to 128 of A-Z a-z 0-9 : _ -")
    return text


@click.group()
def preset() -> None:
    """Configs for kinds of vehicles: e-bike, vans, truck, GPS only."""


@preset.command(
    "list",
    epilog="""\b
Example:
  milepost-agent preset list
""",
)
def list_presets() -> None:
    """List the presets."""
    all_presets = presets()
    width = max(len(one.name) for one in all_presets)
    for one in all_presets:
        click.echo(f"{one.name:<{width}}  {one.title}")


@preset.command(
    epilog="""\b
Examples:
  milepost-agent preset show e-bike
  milepost-agent preset show electric-van | less
"""
)
@click.argument("name")
def show(name: str) -> None:
    """Print a preset's config file."""
    try:
        click.echo(find(name).text, nl=False)
    except AgentError as error:
        fail(error)


@click.command(
    epilog="""\b
Examples:
  sudo milepost-agent init --preset e-bike --broker telemetry.example.com
  sudo milepost-agent init --preset e-bike --broker telemetry.example.com --vehicle bike-17
  milepost-agent init --preset gps-only --out .

\b
`milepost-agent preset list` lists the presets.
"""
)
@click.option("--preset", "name", required=True, help="The kind of vehicle, e.g. electric-van.")
@click.option(
    "--vehicle",
    "vehicle_id",
    callback=_vehicle_id,
    help="The vehicle's id, if it has a certificate already. Without it, id and certificate are"
    " left to `milepost-agent provision`, and the config serves a whole fleet.",
)
@click.option(
    "--broker",
    "broker_host",
    help="The broker's host name; to be filled in later if it is not given.",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder for agent.toml and the DBC files.",
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
def init(
    *, name: str, vehicle_id: str | None, broker_host: str | None, folder: Path, force: bool
) -> None:
    """Write a config for a kind of vehicle, with the DBC files it needs."""
    try:
        written = install(
            find(name), folder, vehicle_id=vehicle_id, broker_host=broker_host, force=force
        )
    except AgentError as error:
        fail(error)
    for path in written:
        click.echo(f"wrote {path}")
    config = folder / CONFIG_FILE
    click.echo("next:")
    if broker_host is None:
        click.echo(f"  put broker.host in place of {BROKER_HOST} in {config}")
    if any(path.suffix == ".dbc" for path in written):
        click.echo("  see that the DBC and the signals' names are your vehicle's")
    if vehicle_id is None:
        click.echo(f"  put the broker's CA into {folder / 'ca.pem'}")
        click.echo(f"  put the claim's certificate.pem and key.pem into {CLAIM_FOLDER}")
        click.echo(f"  sudo {PROGRAM} provision --config {shlex.quote(str(config))}")
    else:
        click.echo(f"  put ca.pem, certificate.pem and key.pem into {folder / 'identity'}")
    click.echo(f"  {PROGRAM} check-config --config {shlex.quote(str(config))}")
