"""``milepost-cloud fleet``: how boards become vehicles, and what becomes of vehicles."""

from __future__ import annotations

import click

from cloud.cli.fleet.allow import allow
from cloud.cli.fleet.claim import claim

EPILOG = """\b
Examples:
  milepost-cloud fleet claim create --out claim            # goes onto every SD card
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1    # this board is van-1
  milepost-cloud fleet list
"""


@click.group(epilog=EPILOG)
def fleet() -> None:
    """Vehicles, their certificates, and the boards that may become one."""


for _command in (claim, allow):
    fleet.add_command(_command)
