"""``milepost-agent diagnostics``: everything that helps to find a fault, in one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from agent.cli_common import config_option, fail
from agent.diagnostics.bundle import collect, listing, write
from agent.diagnostics.parts import PARTS, SAMPLES, Scene
from agent.diagnostics.secrets import known_secrets
from agent.doctor.subject import examine
from agent.errors import AgentError

MOST_LOG_BYTES: Final = 1_000_000


@click.command(
    epilog="""\b
Examples:
  sudo milepost-agent diagnostics --out van-1.tar.gz
  milepost-agent diagnostics --config agent.toml --out van-1.tar.gz
  sudo milepost-agent diagnostics --out van-1.tar.gz --with-samples
\b
As root it holds more: the units' log, the kernel's lines. Secrets are taken out, but look
for yourself before you pass it on. What is in it: docs/diagnostics.md.
"""
)
@config_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write, .tar.gz; it must not be there yet.",
)
@click.option(
    "--with-samples", is_flag=True, help="Also the samples that wait, with the vehicle's POSITIONS."
)
@click.option("--log-from-stdin", is_flag=True, hidden=True, help="The running agent's own lines.")
def diagnostics(config_file: Path, out: Path, *, with_samples: bool, log_from_stdin: bool) -> None:
    """Gather what helps to find a fault into one file, without secrets."""
    own_log = sys.stdin.read(MOST_LOG_BYTES) if log_from_stdin else ""
    console = Console(stderr=True)
    with console.status("looking…") as status:
        subject = examine(config_file)
        entries = collect(
            Scene(subject, own_log, with_samples),
            (*PARTS, SAMPLES) if with_samples else PARTS,
            known_secrets(config_file, subject.parts),
            lambda part: status.update(f"{part.name}: {part.about}…"),
        )
    try:
        write(out, entries, subject.parts.vehicle_id or "a vehicle without a name")
    except AgentError as error:
        fail(error)
    for line in listing(entries):
        click.echo(line)
    click.echo(f"{out}: {out.stat().st_size} bytes, secrets taken out; nothing was sent anywhere")
