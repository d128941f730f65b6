"""``milepost-agent board``: set the board up, see the difference, take it back."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from pydantic import ValidationError

from agent.board import apply as carrying
from agent.board.plan import Change, Places, diff, find_boot, plan, plan_undo
from agent.board.profile import boards, detected, hats, this_model
from agent.board.record import Book, Record
from agent.board.render import REBOOT, notes, overlays, render
from agent.board.wanted import NO_HAT, Chrony, Gps, Level, Logs, Wanted, parse_rate
from agent.cli_common import EXIT_FAILED, fail
from agent.errors import AgentError, ConfigError, StateError
from agent.host import boot_id

HERE: Final = Path("/")
NONE: Final = "none"


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or text == NONE:
        return None
    try:
        return parse_rate(text)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _gpio(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or text == NONE:
        return None
    digits = text.upper().removeprefix("GPIO")
    if not digits.isdigit():
        raise click.BadParameter(f"{text!r} is no GPIO, e.g. 18 (not the pin's number)")
    return int(digits)


def _choice(kind: type[Enum]) -> click.Choice[str]:
    return click.Choice([one.value for one in kind])


_WANTED: Final = (
    click.option("--board", help="pi4, pi5, …; this board's own if it is known. See `board list`."),
    click.option("--hat", help="The CAN HAT, or none. See `board list`."),
    click.option("--can", multiple=True, help="A further CAN interface (USB adapter); repeatable."),
    click.option(
        "--bitrate",
        metavar="RATE",
        callback=_rate,
        help="Of the CAN bus: 250k, 500k, …  [default: 500k]",
    ),
    click.option(
        "--dbitrate",
        metavar="RATE",
        callback=_rate,
        help="CAN FD's data bit rate, e.g. 2M, or none.",
    ),
    click.option(
        "--restart-ms", type=int, help="From bus-off to the next try; 0: never.  [default: 100]"
    ),
    click.option("--txqueuelen", type=int, help="Frames that may wait.  [default: 1000]"),
    click.option(
        "--listen-only/--no-listen-only",
        default=None,
        help="Send nothing, not even an acknowledgement; OBD-II needs it off.",
    ),
    click.option(
        "--oscillator",
        "oscillator_hz",
        metavar="RATE",
        callback=_rate,
        help="The HAT's crystal, e.g. 8M; else its own.",
    ),
    click.option(
        "--interrupt-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="The HAT's interrupt, where not fixed.",
    ),
    click.option("--gps", type=_choice(Gps), help="Where the receiver is.  [default: uart]"),
    click.option("--gps-device", help="Its serial port, where it is not the board's usual one."),
    click.option("--gps-baud", type=int, help="Its baud rate; gpsd finds it out if not given."),
    click.option(
        "--gps-offset",
        "gps_offset_s",
        type=float,
        help="How late its reports come, in seconds.  [default: 0.2]",
    ),
    click.option(
        "--pps-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="Where its pulse a second comes in, e.g. 18.",
    ),
    click.option(
        "--chrony", type=_choice(Chrony), help="How chrony gets its time.  [default: shm]"
    ),
    click.option(
        "--shutdown-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="A button or the ignition: shuts down in order.",
    ),
    click.option(
        "--shutdown-level", type=_choice(Level), help="Level that shuts down.  [default: low]"
    ),
    click.option(
        "--poweroff-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="Tells the supply that it may switch off.",
    ),
    click.option(
        "--watchdog/--no-watchdog", default=None, help="The board's own.  [default: watchdog]"
    ),
    click.option("--logs", type=_choice(Logs), help="Where the journal is.  [default: disk]"),
    click.option(
        "--tmp-in-memory/--no-tmp-in-memory",
        default=None,
        help="Temporary files in memory.  [default: tmp-in-memory]",
    ),
)

_PLACES: Final = (
    click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=HERE,
        show_default=True,
        help="The board's root, e.g. of a card in a reader.",
    ),
    click.option(
        "--boot",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Its boot partition, where that is mounted elsewhere.",
    ),
    click.option(
        "--force", is_flag=True, help="Go on though somebody changed a file since the last apply."
    ),
)


def _with(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@click.group()
def board() -> None:
    """Set the board up: CAN HAT, receiver, time, watchdog, little flash wear."""


@board.command(
    "apply",
    epilog="""\b
Examples:
  sudo milepost-agent board apply --board pi4 --hat mcp2515 --bitrate 500k
  sudo milepost-agent board apply --hat mcp2518fd --bitrate 500k --dbitrate 2M --pps-gpio 18
  sudo milepost-agent board apply --board pi5 --gps usb --shutdown-gpio 17 --yes
  sudo milepost-agent board apply --board pi4 --root /media/rootfs --boot /media/bootfs

\b
It shows a diff and asks. Options that are not given stay as they were applied last; those of a
first apply have their defaults. Nothing is changed twice; `board undo` takes everything back.
""",
)
@_with(_WANTED)
@_with(_PLACES)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def apply_(context: click.Context, /, root: Path, boot: Path | None, **options: Any) -> None:
    """Write what the board needs, after showing what will change."""
    force, is_sure = options.pop("force"), options.pop("yes")
    try:
        book, places = Book(root), _places(root, boot)
        wanted, record = _wanted(context, options, book, root)
        changes = plan(render(wanted), places, record, force=force)
        click.echo(f"As asked for: {_words(wanted)}")
        _warn(wanted, root, places)
        if not _show(changes, places) and record is not None and record.is_whole:
            click.echo("Everything stands as wanted.")
            return
        _ask("Write this?", is_sure=is_sure)
        with book.alone():
            told = wanted.model_dump(mode="json")
            this_boot = boot_id() if root == HERE else ""
            carrying.apply(changes, places, book, record, told, this_boot=this_boot)
    except AgentError as error:
        fail(error)
    click.echo("Done. `milepost-agent board undo` takes it back.")
    _tell_what_is_left(changes, root)
    for note in notes(wanted):
        click.echo(f"Note: {note}")
    if missing := _missing_programs(wanted, root):
        click.echo(f"Not installed there yet: sudo apt-get install {' '.join(missing)}")


@board.command(
    "diff",
    epilog="""\b
Examples:
  milepost-agent board diff
  milepost-agent board diff --board pi4 --hat mcp2515 --bitrate 250k

\b
Exit code: 0 no difference, 1 there is one, 2 wrong usage.
""",
)
@_with(_WANTED)
@_with(_PLACES)
@click.pass_context
def diff_(context: click.Context, /, root: Path, boot: Path | None, **options: Any) -> None:
    """Show what `board apply` with these options would change."""
    force = options.pop("force")
    try:
        book, places = Book(root), _places(root, boot)
        wanted, record = _wanted(context, options, book, root)
        changes = plan(render(wanted), places, record, force=force)
        is_any = _show(changes, places)
    except AgentError as error:
        fail(error)
    if is_any:
        sys.exit(EXIT_FAILED)
    click.echo("Everything stands as wanted.")


@board.command(
    epilog="""\b
Examples:
  sudo milepost-agent board undo
  sudo milepost-agent board undo --root /media/rootfs --boot /media/bootfs --yes
"""
)
@_with(_PLACES)
@click.option("--yes", is_flag=True, help="Do not ask.")
def undo(*, root: Path, boot: Path | None, force: bool, yes: bool) -> None:
    """Put back what stood there before the first `board apply`."""
    try:
        book, places = Book(root), _places(root, boot)
        record = book.read()
        if record is None:
            click.echo("Nothing is applied here.")
            return
        changes = plan_undo(record, places, force=force)
        _show(changes, places)
        _ask("Put this back?", is_sure=yes)
        with book.alone():
            carrying.undo(changes, places, book, record)
    except AgentError as error:
        fail(error)
    click.echo("Done: everything stands as before the first apply.")
    _tell_what_is_left(changes, root)


@board.command(
    "list",
    epilog="""\b
Example:
  milepost-agent board list
""",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=HERE,
    show_default=True,
    help="The board's root.",
)
def list_(root: Path) -> None:
    """List boards and HATs, and what is applied here."""
    model = this_model()
    for title, profiles in (("Boards (--board)", boards()), ("CAN HATs (--hat)", hats())):
        click.echo(f"{title}:")
        width = max(map(len, profiles))
        for name, profile in profiles.items():
            mark = " ← this one" if profiles is boards() and detected(model) == name else ""
            click.echo(f"  {name:<{width}}  {profile.title}{mark}")
    try:
        record = Book(root).read()
    except AgentError as error:
        fail(error)
    if record is None:
        click.echo("Nothing is applied here.")
    else:
        state = "Applied here" if record.is_whole else "Begun and cut off here"
        click.echo(f"{state}: {_words(Wanted.model_validate(record.wanted))}")


def _places(root: Path, boot: Path | None) -> Places:
    if boot is not None and not (boot / "config.txt").is_file():
        raise ConfigError(f"{boot} has no config.txt", hint="--boot is the Pi's boot partition.")
    return Places(root, boot or find_boot(root))


def _wanted(
    context: click.Context, options: Mapping[str, Any], book: Book, root: Path
) -> tuple[Wanted, Record | None]:
    """What was applied last, changed by the options that are given."""
    record = book.read()
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    values = {**({} if record is None else record.wanted), **given}
    if not values.get("board"):
        own = detected(this_model()) if root == HERE else None
        if own is None:
            raise ConfigError(
                "which board it is cannot be seen here",
                hint=f"Name it: --board {' | '.join(boards())}.",
            )
        values["board"] = own
    try:
        return Wanted.model_validate(values), record
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(map(str, first["loc"][:1])).replace("_", "-") + ": "
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            (option if first["loc"] else "") + reason,
            hint="See `milepost-agent board apply --help`.",
        ) from error


def _words(wanted: Wanted) -> str:
    """As options, those that differ from the defaults."""
    words = ["--board", wanted.board]
    for name, value in wanted.model_dump(mode="json", exclude_defaults=True).items():
        option = "--" + name.removesuffix("_hz").removesuffix("_s").replace("_", "-")
        if name == "board":
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [word for one in value for word in (option, str(one))]
        else:
            words += [option, str(value)]
    if wanted.hat == NO_HAT:
        words += ["--hat", NO_HAT]
    return shlex.join(words)


def _show(changes: Sequence[Change], places: Places) -> bool:
    """Whether there was anything to show."""
    lines = list(diff(changes, places))
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        click.secho(line.rstrip("\n"), fg=colours.get(line[:1]))
        if not line.endswith("\n"):
            click.echo("\\ No newline at end of file")
    return bool(lines)


def _warn(wanted: Wanted, root: Path, places: Places) -> None:
    model = this_model() if root == HERE else ""
    if model and detected(model) != wanted.board and wanted.profile.models:
        click.echo(f"Warning: this board says that it is a {model}, not {wanted.board}.", err=True)
    folder = None if places.boot is None else places.boot / "overlays"
    if folder is not None and folder.is_dir():
        for name in overlays(wanted):
            if not (folder / f"{name}.dtbo").is_file():
                click.echo(
                    f"Warning: the firmware has no overlay {name}: update it, or the kernel.",
                    err=True,
                )


def _missing_programs(wanted: Wanted, root: Path) -> list[str]:
    needed = [] if wanted.gps is Gps.NONE else [("gpsd", "gpsd")]
    if needed and wanted.chrony is not Chrony.NONE:
        needed.append(("chrony", "chronyd"))
    return [name for name, program in needed if not (root / "usr/sbin" / program).exists()]


def _ask(question: str, *, is_sure: bool) -> None:
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise StateError("nothing was written: there is nobody to ask", hint="Or give --yes.")
    click.confirm(question, abort=True)


def _tell_what_is_left(changes: Sequence[Change], root: Path) -> None:
    done = [change for change in changes if change.is_one]
    if root != HERE or not done:
        return
    units = sorted({change.needs for change in done} - {REBOOT, ""})
    if any(change.needs == REBOOT for change in done):
        click.echo("To bring it into force: sudo reboot")
    elif units:
        click.echo(
            "To bring it into force: sudo systemctl daemon-reload && "
            f"sudo systemctl restart {' '.join(units)}"
        )
