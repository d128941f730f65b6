"""``milepost-agent board``: set the board up, see the difference, take it back."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from agent.board import apply as carrying
from agent.board.options import WANTED, checked, given, laid_over, with_options, words
from agent.board.plan import Change, Places, diff, find_boot, plan, plan_undo
from agent.board.profile import boards, detected, hats, this_model
from agent.board.record import Book, Record
from agent.board.render import REBOOT, notes, overlays, render
from agent.board.wanted import Chrony, Gps, Wanted
from agent.cli_common import EXIT_FAILED, fail
from agent.errors import AgentError, ConfigError, StateError
from agent.host import boot_id

HERE: Final = Path("/")

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
@with_options(WANTED)
@with_options(_PLACES)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def apply_(context: click.Context, /, root: Path, boot: Path | None, **options: Any) -> None:
    """Write what the board needs, after showing what will change."""
    force, is_sure = options.pop("force"), options.pop("yes")
    try:
        book, places = Book(root), _places(root, boot)
        wanted, record = _wanted(context, options, book, root)
        changes = plan(render(wanted), places, record, force=force)
        click.echo(f"As asked for: {words(wanted)}")
        _warn(wanted, root, places)
        if not _show(changes, places) and record is not None and record.is_whole:
            click.echo("Everything stands as wanted.")
            return
        _ask("Write this?", root, is_sure=is_sure)
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
@with_options(WANTED)
@with_options(_PLACES)
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
@with_options(_PLACES)
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
        _ask("Put this back?", root, is_sure=yes)
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
        click.echo(f"{state}: {words(checked(record.wanted))}")


def _places(root: Path, boot: Path | None) -> Places:
    if boot is not None and not (boot / "config.txt").is_file():
        raise ConfigError(f"{boot} has no config.txt", hint="--boot is the Pi's boot partition.")
    return Places(root, boot or find_boot(root))


def _wanted(
    context: click.Context, options: Mapping[str, Any], book: Book, root: Path
) -> tuple[Wanted, Record | None]:
    """What was applied last, changed by the options that are given."""
    record = book.read()
    values = laid_over({} if record is None else record.wanted, given(context, options))
    if not values.get("board"):
        own = detected(this_model()) if root == HERE else None
        if own is None:
            raise ConfigError(
                "which board it is cannot be seen here",
                hint=f"Name it: --board {' | '.join(boards())}.",
            )
        values["board"] = own
    return checked(values), record


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


def _ask(question: str, root: Path, *, is_sure: bool) -> None:
    if not os.access(root / "etc", os.W_OK):
        raise StateError(f"this user may not write to {root / 'etc'}", hint="Run it with sudo.")
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
