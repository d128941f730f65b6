"""``milepost-agent update``: install a signed package by hand, with the same care as a job."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from agent.cli_common import PROGRAM

if TYPE_CHECKING:
    from agent.updater.board import Board

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog="""\b
Examples:
  sudo milepost-agent update --from milepost_0.2.0-1_arm64.deb
  sudo milepost-agent update --from milepost_0.2.0-1_arm64.deb --no-cloud
  sudo milepost-agent update --from /media/usb/milepost.deb --signature /media/usb/milepost.sig
\b
FILE.json of `milepost-cloud release sign` stands beside the package, or is named. Exit codes:
0 the new version runs; 1 it was refused, or rolled back; 2 wrong usage. See docs/update.md.
"""
)
@click.option("--from", "package", type=_FILE, required=True, help="The package (.deb).")
@click.option(
    "--signature",
    "signature_file",
    type=_FILE,
    help="What `milepost-cloud release sign` wrote. Default: the package's name with .json.",
)
@click.option(
    "--no-cloud",
    is_flag=True,
    help="Healthy is what starts and stays up; do not wait for the cloud to acknowledge a message.",
)
@click.option(
    "--health-timeout",
    "health_timeout_s",
    type=click.FloatRange(30, 86_400),
    default=900,
    show_default=True,
    help="Seconds that the new version has to show that it is healthy.",
)
def update(
    package: Path, signature_file: Path | None, *, no_cloud: bool, health_timeout_s: float
) -> None:
    """Install a signed package, check that the agent is well, roll back if it is not."""
    if os.geteuid() != 0:
        _refuse("this needs root", "Run it with sudo.")
    if not Path("/run/systemd/system").is_dir():
        _refuse(
            "systemd does not run here, so the agent could not be restarted",
            "Install the package with dpkg.",
        )
    from agent.updater.board import Board  # noqa: PLC0415  cryptography only where it is needed

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    board = Board()
    if _prepared(board, package, signature_file, no_cloud=no_cloud, timeout_s=health_timeout_s):
        sys.stderr.flush()
        os.execv(board.program, [str(board.program)])  # noqa: S606  root's own file


def _prepared(
    board: Board, package: Path, signature_file: Path | None, *, no_cloud: bool, timeout_s: float
) -> bool:
    """Whether there is an update to be carried out."""
    from agent.updater import journal  # noqa: PLC0415  likewise
    from agent.updater.board import UpdateError  # noqa: PLC0415  likewise
    from agent.updater.journal import Health  # noqa: PLC0415  likewise
    from agent.updater.prepare import Wish, prepare  # noqa: PLC0415  likewise
    from agent.updater.verify import claim_in  # noqa: PLC0415  likewise

    health = Health.STARTED if no_cloud else Health.ACKNOWLEDGED
    try:
        with journal.locked(board.home):
            if journal.load(board.home) is not None:
                raise UpdateError("another update is under way: see journalctl -u milepost-update")  # noqa: TRY301  told below
            click.echo(f"Checking {package}…", err=True)
            claim = claim_in(signature_file or package.with_suffix(".json"))
            wish = Wish(claim, health=health, health_timeout_s=timeout_s)
            with package.open("rb") as file:
                made = prepare(board, file, wish)
    except (UpdateError, OSError) as error:
        _refuse(str(error), "Nothing was changed.")
    if made is None:
        click.echo(f"{claim.version} is installed already")
        return False
    click.echo(f"From {made.from_version} to {made.to_version}:", err=True)
    return True


def _refuse(reason: str, hint: str) -> NoReturn:
    click.echo(f"{PROGRAM}: {reason}\n{hint}", err=True)
    sys.exit(1)
