"""``milepost-cloud fleet``: how boards become vehicles, and what becomes of vehicles."""

from __future__ import annotations

import click

from cloud.cli.fleet.allow import allow
from cloud.cli.fleet.claim import claim
from cloud.cli.fleet.vehicles import (
    fleet_block,
    fleet_describe,
    fleet_list,
    fleet_revoke,
    fleet_rotate,
    fleet_unblock,
)

EPILOG = """\b
Examples:
  milepost-cloud fleet claim create --out claim            # goes onto every SD card
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1    # this board is van-1
  milepost-cloud fleet allow import boards.csv             # or many at once
  milepost-cloud fleet list
  milepost-cloud fleet block van-1

\b
The whole way from a bare board to a vehicle: docs/fleet.md.
"""


@click.group(epilog=EPILOG)
def fleet() -> None:
    """Vehicles, their certificates, and the boards that may become one."""


for _command in (
    claim,
    allow,
    fleet_list,
    fleet_describe,
    fleet_block,
    fleet_unblock,
    fleet_revoke,
    fleet_rotate,
):
    fleet.add_command(_command)
