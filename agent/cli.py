"""``milepost-agent``: run the agent, check its config, look into a running one.

Exit codes: 0 done, 1 failed, 2 wrong usage or config. ``doctor`` counts severity in the
same numbers: 0 nothing to mend, 1 a warning, 2 an error.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from agent.cli_common import EXIT_RESTART, PROGRAM, config_option, fail
from agent.errors import AgentError

STOP_MARGIN_S: Final = 15.0
"""For everything at a stop but the drain."""

_EXTRAS: Final = {"cryptography": "provision", "pkcs11": "provision-pkcs11"}
"""Of what is missing, where it is not ``agent``'s."""

_SHELLS: Final = ("bash", "zsh", "fish")


class LazyGroup(click.Group):
    """Loads the commands of other modules only when they are asked for."""

    _elsewhere: Final = {
        "board": "agent.board.cli",
        "config": "agent.config_cli",
        "diagnostics": "agent.diagnostics.cli",
        "doctor": "agent.doctor.cli",
        "init": "agent.preset_cli",
        "outbox": "agent.outbox_cli",
        "preset": "agent.preset_cli",
        "provision": "agent.provision.cli",
        "rotate": "agent.identity.rotate_cli",
        "status": "agent.control",
        "update": "agent.update_cli",
        "watch": "agent.watch.cli",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, by name."""
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, or ``None``."""
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(self._elsewhere[cmd_name]), cmd_name)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  milepost-agent init --preset e-bike --vehicle bike-17 --broker telemetry.example.com
  milepost-agent check-config --config agent.toml
  milepost-agent doctor --config agent.toml
  milepost-agent run --config agent.toml
  milepost-agent watch --config agent.toml
""",
)
@click.version_option(package_name="milepost", prog_name=PROGRAM)
def cli() -> None:
    """Sample GPS and CAN on a vehicle and deliver every sample."""


@cli.command(
    epilog="""\b
Example:
  milepost-agent run --config /etc/milepost/agent.toml
Stop it with Ctrl-C or SIGTERM; it delivers what it can and keeps the rest. Exit code 75:
a job asks for a restart, so start it again.
"""
)
@config_option
def run(config_file: Path) -> None:
    """Run the agent until it is stopped."""
    from agent import memory  # noqa: PLC0415  --help and completion stay quick

    memory.use_small_pages()  # before there is much of it
    from agent import logs  # noqa: PLC0415  likewise
    from agent.layer import ConfigLayer  # noqa: PLC0415  likewise

    try:
        layer = ConfigLayer(config_file)
        logs.set_up(layer.file.log)
        with layer.guard():
            settings = layer.begin()
            logs.set_up(settings.log)
            from agent import compose, sd_notify, supervisor  # noqa: PLC0415  likewise

            notifier = sd_notify.SystemdNotifier()
            agent = compose.Agent(settings, layer=layer, ask_for_time=notifier.extend_timeout)
            supervisor.run(
                agent,
                notifier=notifier,
                stop_takes_s=settings.delivery.shutdown_drain_s + STOP_MARGIN_S,
                monotonic_s=agent.clock.monotonic_s,
            )
    except AgentError as error:
        fail(error)
    if agent.wants_restart:
        sys.exit(EXIT_RESTART)


@cli.command(
    "check-config",
    epilog="""\b
Example:
  milepost-agent check-config --config agent.toml
""",
)
@config_option
def check_config(config_file: Path) -> None:
    """Check the config, the DBC files and the certificates it names, without running."""
    from agent import config  # noqa: PLC0415  --help and completion stay quick

    try:
        settings = config.load(config_file)
        from agent import check, identity  # noqa: PLC0415  likewise

        settings = identity.identified(settings)
        check.check(settings)
    except AgentError as error:
        fail(error)
    _tell_of_layer(config_file)
    mapped = sum(len(bus.signals) for bus in settings.can)
    asked = f"{len(settings.obd)} asked by OBD-II or UDS, " if settings.obd else ""
    asked += f"{len(settings.j1939)} of J1939, " if settings.j1939 else ""
    click.echo(
        f"{config_file}: good. Vehicle {settings.vehicle.id}, GPS {settings.gps.source.value}, "
        f"{len(settings.can)} CAN bus(es) with {mapped} mapped field(s), "
        f"{asked}"
        f"broker {settings.broker.host}:{settings.broker.port}."
    )


def _tell_of_layer(config_file: Path) -> None:
    """What was checked is the file; the agent may run with something else over it."""
    from agent.layer import ConfigLayer  # noqa: PLC0415  --help and completion stay quick

    layer = ConfigLayer(config_file).in_force()
    if layer.job_id:
        click.echo(
            f"Job {layer.job_id} has laid settings over the file, which are not checked here: "
            f"milepost-agent config show --config {config_file}"
        )


@cli.command(
    epilog="""\b
Examples:
  milepost-agent completion bash > /etc/bash_completion.d/milepost-agent
  milepost-agent completion fish > ~/.config/fish/completions/milepost-agent.fish
"""
)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415  seldom used

    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script(cli, {}, PROGRAM, "_MILEPOST_AGENT_COMPLETE").source())


def main() -> None:
    """The command's entry point."""
    try:
        cli(prog_name=PROGRAM)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "agent")
        sys.exit(
            f"{PROGRAM}: {error.name} is not installed; "
            f"install what this command needs: pip install 'milepost[{extra}]'"
        )
