"""The manual pages, one a command, from the command line itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from click_man.core import write_man_pages

if TYPE_CHECKING:
    from pathlib import Path


def write(command: click.Group, name: str, folder: Path, version: str, epoch_s: int) -> None:
    """``name.1`` and one for each command below it, into ``folder``."""
    write_man_pages(
        name,
        _loaded(command),
        version=version,
        target_dir=str(folder),
        date=datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d"),
    )


def _loaded(group: click.Group) -> click.Group:
    """The group with the commands that it would load only when they are asked for."""
    context = click.Context(group)
    commands: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            commands[name] = _loaded(command) if isinstance(command, click.Group) else command
    return click.Group(group.name, commands, params=group.params, help=group.help)
