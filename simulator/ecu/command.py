"""``milepost-sim ecu``: ECUs to try a diagnostic client on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from simulator.clock import monotonic_s
from simulator.ecu.engine import EngineAt, EngineState, driven, held, rpm_at
from simulator.ecu.j1939 import Fault, parse_fault
from simulator.ecu.node import DEFAULT_VIN, EcuNode, EcuOptions
from simulator.ecu.obd import TroubleCode, parse_code
from simulator.ecu.truck import TruckNode, TruckOptions
from simulator.replay import parse_option
from simulator.stopping import stop_on_signals

OBD_EPILOG = """\b
Examples:
  milepost-sim ecu obd --drive --dtc P0301 --pending P0420
  milepost-sim ecu obd --interface socketcan --channel vcan0 --speed-kmh 50
  milepost-sim ecu obd --ids 29bit --ecus 2 --slow 0.5
  milepost-sim ecu obd --ignition off --stays-awake 20

\b
Ask it by hand (can-utils):
  isotprecv -s 7e0 -d 7e8 vcan0 & echo 09 02 | isotpsend -s 7e0 -d 7e8 vcan0
"""

J1939_EPILOG = """\b
Examples:
  milepost-sim ecu j1939 --drive
  milepost-sim ecu j1939 --fault 110:3                 one fault, a single frame
  milepost-sim ecu j1939 --fault 110:3 --fault 100:1   two, in packets (BAM)
  milepost-sim ecu j1939 --interface socketcan --channel vcan0 --address 3
"""

TELL_EVERY_S = 0.3

Command = TypeVar("Command", bound=Callable[..., Any])


def _parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return convert


def _on_a_bus(command: Command) -> Command:
    for option in (
        click.option(
            "--interface",
            default="udp_multicast",
            show_default=True,
            help="python-can interface: udp_multicast, socketcan, …",
        ),
        click.option(
            "--channel",
            default="239.74.163.2",
            show_default=True,
            help="Channel of that interface, e.g. vcan0 with socketcan.",
        ),
        click.option(
            "--can-option",
            "can_options",
            type=_parsed(parse_option),
            multiple=True,
            metavar="NAME=VALUE",
            help="Passed to the bus, e.g. port=43114. Repeatable.",
        ),
        click.option("--drive", is_flag=True, help="Do the built-in drive instead of one state."),
        click.option(
            "--speed",
            type=click.FloatRange(min=0, min_open=True),
            default=1.0,
            show_default=True,
            help="How many times as fast the drive is done.",
        ),
        click.option("--loop", is_flag=True, help="Begin the drive again at its end."),
        click.option(
            "--speed-kmh", type=click.FloatRange(0, 250), default=0.0, help="Held speed, km/h."
        ),
        click.option("--rpm", type=click.FloatRange(0, 8000), help="Held engine speed."),
        click.option(
            "--ignition",
            type=click.Choice(["on", "off"]),
            default="on",
            show_default=True,
            help="With off the ECU sleeps, and says nothing.",
        ),
        click.option("--vin", default=DEFAULT_VIN, show_default=True, help="17 characters."),
        click.option(
            "--for",
            "duration_s",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="End by itself after so long; without it, at Ctrl-C.",
        ),
    )[::-1]:
        command = option(command)
    return command


def _codes(flag: str, name: str, says: str) -> Callable[[Command], Command]:
    return click.option(
        flag,
        name,
        type=_parsed(parse_code),
        multiple=True,
        metavar="CODE",
        help=f"{says} Repeatable.",
    )


@click.group()
def ecu() -> None:
    """ECUs that answer OBD-II and UDS, or broadcast J1939, on any CAN bus."""


@ecu.command(epilog=OBD_EPILOG)
@_on_a_bus
@click.option(
    "--ids",
    type=click.Choice(["11bit", "29bit"]),
    default="11bit",
    show_default=True,
    help="Which ids it listens to.",
)
@click.option(
    "--ecus",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="How many answer; those after the first know the coolant and the supply voltage only.",
)
@_codes("--dtc", "stored", "A stored trouble code, e.g. P0301.")
@_codes("--pending", "pending", "A pending one.")
@_codes("--permanent", "permanent", "A permanent one.")
@click.option(
    "--slow",
    "answer_after_s",
    type=click.FloatRange(0, 25),
    default=0.005,
    metavar="SECONDS",
    help='Answer after so long; over 0.05 it says "response pending" first.',
)
@click.option(
    "--stays-awake",
    "stays_awake_s",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="After the ignition went off and after each request.",
)
@click.option("--gateway", is_flag=True, help="No traffic but answers, as behind a gateway.")
def obd(
    *,
    ids: str,
    ecus: int,
    stored: tuple[TroubleCode, ...],
    pending: tuple[TroubleCode, ...],
    permanent: tuple[TroubleCode, ...],
    answer_after_s: float,
    stays_awake_s: float,
    gateway: bool,
    vin: str,
    duration_s: float | None,
    **common: Any,
) -> None:
    """An OBD-II ECU: services 01, 03, 07, 09, 0A, and UDS 10, 19 and 3E."""
    engine = _engine(common)
    nodes = [
        EcuNode(
            EcuOptions(
                number=number,
                extended=ids == "29bit",
                vin=vin if number == 0 else None,
                stored=stored if number == 0 else (),
                pending=pending if number == 0 else (),
                permanent=permanent if number == 0 else (),
                answer_after_s=answer_after_s,
                stays_awake_s=stays_awake_s,
                traffic_every_s=0 if gateway or number else 0.1,
                **({"pids": (0x05, 0x42)} if number else {}),
            ),
            engine=engine,
            **_bus(common),
        )
        for number in range(ecus)
    ]

    def told() -> str:
        requests = sum(node.counts.requests for node in nodes)
        unheard = sum(node.counts.unheard for node in nodes)
        asleep = "asleep" if nodes[0].counts.asleep else "awake"
        state = nodes[0].state
        return (
            f"{asleep}, {state.speed_kmh:.0f} km/h, {state.rpm:.0f}/min: {requests} requests, "
            f"{sum(node.counts.answers for node in nodes)} answers, {unheard} while asleep"
        )

    _run(nodes, told, duration_s)


@ecu.command(epilog=J1939_EPILOG)
@_on_a_bus
@click.option(
    "--address", type=click.IntRange(0, 253), default=0, show_default=True, help="Its own."
)
@click.option(
    "--fault",
    "faults",
    type=_parsed(parse_fault),
    multiple=True,
    metavar="SPN:FMI",
    help="An active fault, told by DM1. Repeatable.",
)
def j1939(
    *,
    address: int,
    faults: tuple[Fault, ...],
    vin: str,
    duration_s: float | None,
    **common: Any,
) -> None:
    """A truck's ECU: EEC1, CCVS1, coolant, distance, fuel and DM1; VIN and hours on request."""
    node = TruckNode(
        TruckOptions(address=address, vin=vin, faults=faults),
        engine=_engine(common),
        **_bus(common),
    )

    def told() -> str:
        state = node.state
        return (
            f"{state.speed_kmh:.0f} km/h, {state.rpm:.0f}/min: {node.frames_sent} frames, "
            f"{node.requests} requests"
        )

    _run([node], told, duration_s)


def _bus(common: dict[str, Any]) -> dict[str, Any]:
    return {
        "interface": common["interface"],
        "channel": common["channel"],
        "bus_options": dict(common["can_options"]),
    }


def _engine(common: dict[str, Any]) -> EngineAt:
    if common["drive"]:
        return driven(speed=common["speed"], loop=common["loop"])
    speed_kmh, rpm, on = common["speed_kmh"], common["rpm"], common["ignition"] == "on"
    if rpm is None:
        rpm = rpm_at(speed_kmh) if on else 0.0
    volts = EngineState().supply_volts if on else 12.6
    return held(EngineState(ignition=on, speed_kmh=speed_kmh, rpm=rpm, supply_volts=volts))


def _run(
    nodes: Sequence[EcuNode | TruckNode], told: Callable[[], str], duration_s: float | None
) -> None:
    from rich.live import Live  # noqa: PLC0415  slow to import
    from rich.text import Text  # noqa: PLC0415  likewise

    try:
        with stop_on_signals() as stopping, Live(Text(""), transient=True) as live:
            for node in nodes:
                node.start()
            end_s = None if duration_s is None else monotonic_s() + duration_s
            while not stopping.is_set() and not any(node.finished.is_set() for node in nodes):
                live.update(Text(told()))
                left_s = TELL_EVERY_S if end_s is None else end_s - monotonic_s()
                if left_s <= 0 or stopping.wait(min(left_s, TELL_EVERY_S)):
                    break
    finally:
        for node in nodes:
            node.stop()
    click.echo(told())
    for node in nodes:
        if node.error is not None:
            raise node.error
