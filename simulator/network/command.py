"""``milepost-sim network``: the fault proxy as a command."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import click

from simulator.clock import monotonic_s
from simulator.durations import duration
from simulator.network.conditions import CLEAR
from simulator.network.faults import FAULTS, Spell, condition_at, parse_spell
from simulator.network.relay import Relay, RelayCounts
from simulator.stopping import Stopping, stop_on_signals

_TICK_S: Final = 0.05
_LARGEST_PORT: Final = 65_535
_COLUMN: Final = 18

Address = tuple[str, int]


def _address(*, may_be_zero: bool) -> Callable[[str], Address]:
    def parse(text: str) -> Address:
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        lowest = 0 if may_be_zero else 1
        if not colon or not host or not port.isdigit() or not lowest <= int(port) <= _LARGEST_PORT:
            raise click.BadParameter(f"{text!r} is not HOST:PORT, e.g. 127.0.0.1:8883")
        return host, int(port)

    return parse


def _spell(text: str) -> Spell:
    try:
        return parse_spell(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _table() -> str:
    names = (
        (f"{name}={kind.example}" if kind.example else name, kind.does)
        for name, kind in FAULTS.items()
    )
    return "\n".join(f"  {name:<{_COLUMN}}{does}" for name, does in names)


EPILOG: Final = f"""\b
Faults:
{_table()}

\b
A fault holds all the time, from a time on (cut@30s), or from one to another
(cut@30s..1m), counted from the start. Several at once add up.

\b
Examples:
  milepost-sim network --to broker.example:8883 --fault half-open@30s..60s
  milepost-sim network --listen 127.0.0.1:8884 --to 127.0.0.1:8883 \\
      --fault delay=800ms --fault loss=10% --fault cut@1m..2m
  milepost-sim network --to 127.0.0.1:8883 --fault flap=4s/2s --for 5m

\b
Put the address it prints into the agent's config; TLS goes through untouched,
so tell the agent which name is in the broker's certificate:
  [broker]
  host = "127.0.0.1"
  port = 8884
  server_name = "broker.example"
"""


@click.command(epilog=EPILOG)
@click.option(
    "--listen",
    type=_address(may_be_zero=True),
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Where clients connect; port 0 takes a free one and prints it.",
)
@click.option(
    "--to",
    "target",
    type=_address(may_be_zero=False),
    required=True,
    metavar="HOST:PORT",
    help="The server behind the network, e.g. the MQTT broker.",
)
@click.option(
    "--fault",
    "spells",
    type=_spell,
    multiple=True,
    metavar="FAULT[@START[..END]]",
    help="What is wrong with the network, and when; repeatable. Without any it is a good one.",
)
@click.option("--for", "duration_s", type=duration, help="End after this, e.g. 60s or 5m.")
@click.option("--seed", type=int, help="The same seed makes the same segments late.")
def network(
    *,
    listen: Address,
    target: Address,
    spells: tuple[Spell, ...],
    duration_s: float | None,
    seed: int | None,
) -> None:
    """A bad network: a TCP proxy between any client and any server.

    Cuts, silent half-open links, delay, loss, low rates and flapping, on time. It ends by
    Ctrl-C or --for, and says what went through.
    """
    for spell in spells:
        if duration_s is not None and spell.start_s >= duration_s:
            raise click.BadParameter(
                f"{spell.fault.name} begins after {spell.start_s:g} s, but the run ends after "
                f"{duration_s:g} s",
                param_hint="--fault",
            )
    relay = Relay(*target, host=listen[0], port=listen[1], random=Random(seed))  # noqa: S311  no secret
    with stop_on_signals() as stopping:
        relay.start()
        try:
            click.echo(f"listening on {_text((listen[0], relay.port))}, to {_text(target)}")
            _run(relay, stopping, spells, duration_s)
        finally:
            relay.stop()
    _sum_up(relay.counts)


def _run(
    relay: Relay, stopping: Stopping, spells: Sequence[Spell], duration_s: float | None
) -> None:
    begun_s = monotonic_s()
    end_s = math.inf if duration_s is None else duration_s
    told: list[str] = []
    while True:
        elapsed_s = monotonic_s() - begun_s
        if elapsed_s >= end_s:
            return
        condition = condition_at(spells, elapsed_s)
        if condition != relay.condition:
            relay.become(condition)
        holding = [
            spell.fault.name
            for spell in spells
            if spell.holds_at(elapsed_s)
            and spell.fault.condition_at(elapsed_s - spell.start_s) != CLEAR
        ]
        if holding != told:
            told = holding
            click.echo(f"{elapsed_s:8.1f} s  {', '.join(holding) or 'a good network'}")
        if stopping.wait(min(_TICK_S, end_s - elapsed_s)):
            return


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _sum_up(counts: RelayCounts) -> None:
    click.echo(
        f"{counts.arrived} connections, {counts.connections} passed on, {counts.refused} refused; "
        f"{counts.bytes_to_target} bytes to the server, {counts.bytes_to_client} to clients, "
        f"{counts.bytes_swallowed} vanished"
    )
