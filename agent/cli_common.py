"""What every command of ``milepost-agent`` shares: the option for the config, the way to fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from agent.errors import AgentError, ConfigError

PROGRAM: Final = "milepost-agent"
DEFAULT_CONFIG: Final = Path("/etc/milepost/agent.toml")
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_RESTART: Final = 75
"""EX_TEMPFAIL of sysexits(3): to be started again, at once."""

config_option: Callable[[Any], Any] = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The agent's TOML file.",
)


def fail(error: AgentError) -> NoReturn:
    """Print what is wrong and what to do next, and exit."""
    click.echo(f"{PROGRAM}: {error}", err=True)
    sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
