"""``milepost-sim``: the command line of the simulator.

Exit codes: 0 ok, 1 failed (the message says what to do next), 2 wrong usage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from simulator.gpsd_server import Begin, Stamp
from simulator.lazy_group import LazyGroup
from simulator.replay import Replay, parse_option, run_replay
from simulator.schedule import require_speed

PROGRAM = "milepost-sim"
LOG_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

MAIN_EPILOG = """\b
Examples:
  milepost-sim demo
  milepost-sim replay --nmea drive.nmea --speed 10
  milepost-sim nmea drive.nmea --baud 9600 --link /tmp/gps0
  milepost-sim network --to broker.example:8883 --fault half-open@30s..60s
  milepost-sim ecu obd --drive --dtc P0301
  milepost-sim scenario run gps-loss brown-out
  milepost-sim replay --help
"""

REPLAY_EPILOG = """\b
Examples:
  milepost-sim replay --nmea drive.nmea
  milepost-sim replay --nmea drive.nmea --gpsd-port 0 --speed 10 --loop
  milepost-sim replay --can drive.candump --interface socketcan --channel vcan0
  milepost-sim replay --nmea drive.nmea --can drive.candump --log-channel can1

\b
See what a gpsd client sees:
  gpspipe -w 127.0.0.1:2947
"""

COMPLETION_EPILOG = """\b
Examples:
  milepost-sim completion bash > ~/.local/share/bash-completion/completions/milepost-sim
  milepost-sim completion zsh > ~/.zfunc/_milepost-sim
  milepost-sim completion fish > ~/.config/fish/completions/milepost-sim.fish
"""


@click.group(
    cls=LazyGroup,
    epilog=MAIN_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy={
        "demo": ("simulator.demo.cli:demo", "Run the whole system on this desk, with a live map."),
        "ecu": ("simulator.ecu.command:ecu", "ECUs that answer OBD-II and UDS, or speak J1939."),
        "network": ("simulator.network.command:network", "A bad network in front of any server."),
        "nmea": ("simulator.nmea_command:nmea", "A receiver on a serial port, at its baud rate."),
        "scenario": (
            "simulator.scenario.command:scenario",
            "Faults on a time line, and whether all came out as expected.",
        ),
        "synth": ("simulator.synth.command:synth", "Make a drive of one's own: NMEA and CAN logs."),
    },
)
@click.version_option(package_name="milepost", prog_name=PROGRAM)
def cli() -> None:
    """A whole vehicle on a desk: recorded or made-up GPS and CAN, and a bad network."""


@cli.command(epilog=REPLAY_EPILOG)
@click.option("--nmea", type=LOG_FILE, help="NMEA log to replay over the gpsd protocol.")
@click.option("--gpsd-host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--gpsd-port",
    type=click.IntRange(0, 65535),
    default=2947,
    show_default=True,
    help="TCP port to listen on; 0 takes a free one and prints it.",
)
@click.option(
    "--stamp",
    type=click.Choice([stamp.value for stamp in Stamp]),
    default=Stamp.PRESENT.value,
    show_default=True,
    help="Times of the fixes: as in the log, or the moment of sending.",
)
@click.option(
    "--begin",
    type=click.Choice([begin.value for begin in Begin]),
    default=Begin.FIRST_WATCHER.value,
    show_default=True,
    help="Wait for the first gpsd client, or go at once.",
)
@click.option("--can", type=LOG_FILE, help="candump log to play.")
@click.option(
    "--interface",
    default="udp_multicast",
    show_default=True,
    help="python-can interface: udp_multicast, socketcan, …",
)
@click.option(
    "--channel",
    default="239.74.163.2",
    show_default=True,
    help="Channel of that interface, e.g. vcan0 with socketcan.",
)
@click.option(
    "--can-option",
    "can_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Passed to the bus, e.g. port=43114. Repeatable.",
)
@click.option("--log-channel", help="Play only this interface of the log, e.g. can1.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times as fast as recorded.",
)
@click.option(
    "--max-gap",
    "max_gap_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Shorten longer pauses of the logs to this, in the logs' time.",
)
@click.option("--loop", is_flag=True, help="Start again at the end, until Ctrl-C.")
def replay(
    *,
    nmea: Path | None,
    gpsd_host: str,
    gpsd_port: int,
    stamp: str,
    begin: str,
    can: Path | None,
    interface: str,
    channel: str,
    can_options: tuple[str, ...],
    log_channel: str | None,
    speed: float,
    max_gap_s: float | None,
    loop: bool,
) -> None:
    """Replay recorded GPS to gpsd clients, recorded CAN to a bus.

    With both, CAN starts when GPS does.
    """
    if nmea is None and can is None:
        raise click.UsageError("give --nmea FILE, --can FILE or both")
    try:
        require_speed(speed)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from error
    try:
        options = dict(map(parse_option, can_options))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--can-option") from error
    run_replay(
        Replay(
            nmea=nmea,
            gpsd_host=gpsd_host,
            gpsd_port=gpsd_port,
            stamp=Stamp(stamp),
            begin=Begin(begin),
            can=can,
            interface=interface,
            channel=channel,
            can_options=options,
            log_channel=log_channel,
            speed=speed,
            max_gap_s=max_gap_s,
            loop=loop,
        )
    )


@cli.command(epilog=COMPLETION_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script(cli, {}, PROGRAM, "_MILEPOST_SIM_COMPLETE").source())


def main() -> None:
    """Entry point of ``milepost-sim``."""
    try:
        cli(prog_name=PROGRAM)
    except ModuleNotFoundError as error:
        sys.exit(
            f"{PROGRAM}: {error.name} is not installed; "
            "install what this command needs: pip install 'milepost[simulator]'"
        )
