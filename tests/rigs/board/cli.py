"""``python -m tests.rigs.board``: a vehicle in a virtual machine, its power and network cut.

Exit codes: 0 the promise was kept (or this machine cannot run the rig, said by name), 1 it
was not, or the rig failed, 2 wrong usage.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.rigs.board import can, clock, diagnostics, fleet, network, power, raw_bus
from tests.rigs.board import image as images
from tests.rigs.board.architectures import AMD64, ARCHITECTURES
from tests.rigs.board.bench import Bench
from tests.rigs.board.depot import Depot
from tests.rigs.board.errors import MissingProgramsError, RigError, RunEndedError
from tests.rigs.board.machine import accelerator

OVERTIME_S = 300
"""After the time bound: for what is under way. Then everything is torn down."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  python -m tests.rigs.board power --cuts 20
  python -m tests.rigs.board power --cuts 5 --seed 7 --keep /tmp/rig --json report.json
  python -m tests.rigs.board network --only flapping
  python -m tests.rigs.board can
  python -m tests.rigs.board diagnostics
  python -m tests.rigs.board fleet
  python -m tests.rigs.board fleet --arch arm64
  python -m tests.rigs.board run -- systemctl status milepost-agent
""",
)
def rig():
    """A Debian guest with the agent from its wheel, run by systemd. See docs/rig.md."""


def scenario(function):
    """The options that every scenario has."""
    for option in (
        click.option("--seed", type=int, help="Repeat a run's choices. Default: random, printed."),
        click.option(
            "--deadline",
            "deadline_s",
            default=3600,
            show_default=True,
            help="Time bound, seconds, the image's building not counted.",
        ),
        click.option(
            "--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True
        ),
        click.option(
            "--json", "json_file", type=click.Path(path_type=Path), help="Write the report."
        ),
        click.option(
            "--keep",
            type=click.Path(path_type=Path),
            help="Keep the console's and the broker's logs in this folder.",
        ),
    ):
        function = option(function)
    return function


@rig.command()
def image():
    """Build the guest's image, or say where it is."""
    click.echo(str(_built(architecture=AMD64).folder))


@rig.command("power")
@click.option("--cuts", default=20, show_default=True, type=click.IntRange(min=1))
@scenario
def power_command(*, cuts, **options):
    """Cut the power at random moments; nothing that is owed may be missing."""
    _perform(
        lambda bench, deadline_s: power.run(bench, cuts=cuts, deadline_s=deadline_s),
        power.words,
        **options,
    )


@rig.command("network")
@click.option(
    "--hold",
    "hold_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=10),
    help="Seconds that each fault holds.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([fault.name for fault in network.FAULTS]),
    help="This fault alone. Repeatable.",
)
@scenario
def network_command(*, hold_s, only, **options):
    """Loss, delay, 1 KB/s, half-open and flapping by tc netem; nothing lost, no storm."""
    _perform(
        lambda bench, deadline_s: network.run(
            bench, deadline_s=deadline_s, hold_s=hold_s, only=only
        ),
        network.words,
        **options,
    )


@rig.command("clock")
@scenario
def clock_command(**options):
    """A board that believes in 1970: flagged across a power cut, re-stamped by a late fix."""
    _perform(
        lambda bench, deadline_s: clock.run(bench, deadline_s=deadline_s), clock.words, **options
    )


@rig.command("can")
@click.option("--load", is_flag=True, help="Run bench/can_load.py there, too (without KVM: slow).")
@scenario
def can_command(*, load, **options):
    """SocketCAN for real: kernel filters, bus down and up, flood, CAN FD, missing interface."""
    _perform(
        lambda bench, deadline_s: can.run(
            bench, promises=raw_bus, deadline_s=deadline_s, with_load=load
        ),
        can.words,
        **options,
        config=raw_bus.CONFIG,
        files=can.files(),
    )


@rig.command("diagnostics")
@scenario
def diagnostics_command(**options):
    """OBD-II, UDS and J1939 on SocketCAN: filters, values, faults, sleep, bus down and up."""
    _perform(
        lambda bench, deadline_s: can.run(bench, promises=diagnostics, deadline_s=deadline_s),
        can.words,
        **options,
        config=diagnostics.CONFIG,
        files=can.files(),
    )


@rig.command("fleet")
@click.option(
    "--arch",
    "architecture",
    type=click.Choice(list(ARCHITECTURES)),
    default=AMD64.debian,
    show_default=True,
    help="Debian's name of the board's architecture.",
)
@scenario
def fleet_command(*, architecture, **options):
    """From a bare board to a vehicle in the fleet: package, claim, watchdog, upgrade, purge."""
    _perform(
        lambda depot, deadline_s: fleet.run(depot, deadline_s=deadline_s),
        fleet.words,
        **options,
        stand=Depot,
        architecture=ARCHITECTURES[architecture],
        installed=False,
    )


@rig.command("run")
@click.argument("command", nargs=-1, required=True)
def run_command(command):
    """Boot, wait for READY, run one command in the guest, power off."""
    built = _built(architecture=AMD64)
    with tempfile.TemporaryDirectory(prefix="rig-") as folder:
        _on_signals()
        try:
            with Bench(built, Path(folder), accel=accelerator(AMD64), seed=1, say=_say) as bench:
                bench.boot()
                times = bench.machine.wait_ready()
                _say(f"READY after {times.ready_s:.1f} s ({times.outside_s:.1f} s outside)")
                done = bench.machine.shell.run(*command, timeout_s=600.0)
                bench.machine.power_off()
        except RigError as error:
            _fail(str(error))
    click.echo(done.out, nl=False)
    sys.exit(done.code)


def _perform(
    function,
    words,
    *,
    seed,
    deadline_s,
    accel,
    json_file,
    keep,
    stand=Bench,
    architecture=AMD64,
    installed=True,
    **guest,
):
    built = _built(architecture=architecture, installed=installed)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    accel = accelerator(architecture) if accel == "auto" else accel
    _say(f"seed {seed}, {accel}, at most {deadline_s} s")
    _on_signals(deadline_s + OVERTIME_S)
    with tempfile.TemporaryDirectory(prefix="rig-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with stand(built, folder, accel=accel, seed=seed, say=_say, **guest) as bench:
                report = {"seed": seed, **function(bench, deadline_s)}
                report["stalls"] = bench.machine.stalls
        except RigError as error:
            _fail(str(error))
        finally:
            signal.alarm(0)
    _tell(report, words, json_file)


def _tell(report, words, json_file):
    if json_file:
        json_file.write_text(json.dumps(report, indent=2) + "\n")
    for line in words(report):
        click.echo(line)
    for state in report["stalls"]:
        click.echo(f"the emulator stood still in a boot, was switched off and on again:\n{state}")
    for fault in report["faults"]:
        click.echo(f"FAULT: {fault}")
    if report["faults"]:
        again = f"--seed {report['seed']}; " if "seed" in report else ""
        click.echo(f"to repeat it: {again}--keep FOLDER keeps the logs", err=True)
        sys.exit(1)
    click.echo("every promise was kept; nothing that was owed is missing")


def _built(*, architecture, installed=True):
    """The image; where this machine cannot make it, say so and end."""
    _on_signals()
    try:
        return images.build(_say, architecture=architecture, installed=installed)
    except MissingProgramsError as error:
        required = os.environ.get("MILEPOST_REQUIRE_ALL") == "1"
        click.echo(
            f"{'FAILED' if required else 'SKIPPED'}: the rig needs what is not here: {error}\n"
            f"    .ci/apt-packages {architecture.apt_packages}",
            err=True,
        )
        sys.exit(1 if required else 0)
    except RigError as error:
        _fail(str(error))


def _on_signals(after_s=0):
    """Whatever ends the run, the guest and the broker end with it."""

    def end(number, frame):
        reason = "the time bound has passed" if number == signal.SIGALRM else "interrupted"
        raise RunEndedError(reason)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.alarm(after_s)


_BEGUN_S = time.monotonic()


def _say(text):
    click.echo(f"[{time.monotonic() - _BEGUN_S:5.0f} s] {text}", err=True)


def _fail(text):
    click.echo(f"the rig failed: {text}", err=True)
    sys.exit(1)
