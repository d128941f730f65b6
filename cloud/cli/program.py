"""The group of all commands, and how the program ends."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from cloud.cli.certs import certs
from cloud.cli.common import PROGRAM
from cloud.cli.fleet import fleet
from cloud.cli.gaps import gaps
from cloud.cli.jobs import jobs
from cloud.cli.jobs_files import jobs_diagnostics, jobs_update
from cloud.cli.mosquitto import mosquitto
from cloud.cli.release import release
from cloud.cli.serving import serve
from cloud.cli.shadow import shadow
from cloud.cli.stored import dead_letters, history, report, vehicles
from cloud.errors import CloudError, ConfigError

MAIN_EPILOG = """\b
Examples:
  milepost-cloud serve
  milepost-cloud fleet claim create --out claim
  milepost-cloud certs issue van-1 --out van-1-identity
  milepost-cloud report --json
  milepost-cloud gaps --vehicle van-1
  milepost-cloud jobs create restart van-1 --wait 60
"""

COMPLETION_EPILOG = """\b
Examples:
  milepost-cloud completion bash > ~/.local/share/bash-completion/completions/milepost-cloud
  milepost-cloud completion zsh > ~/.zfunc/_milepost-cloud
  milepost-cloud completion fish > ~/.config/fish/completions/milepost-cloud.fish
"""


@click.group(epilog=MAIN_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="milepost", prog_name=PROGRAM)
def cli() -> None:
    """Milepost's cloud on one machine, and what it has stored."""


for _command in (serve, fleet, certs, report, vehicles, gaps, history, dead_letters, shadow):
    cli.add_command(_command)
for _command in (jobs, mosquitto, release):
    cli.add_command(_command)
for _command in (jobs_update, jobs_diagnostics):
    jobs.add_command(_command)


@cli.command(epilog=COMPLETION_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    print(kind(cli, {}, PROGRAM, "_MILEPOST_CLOUD_COMPLETE").source())


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit."""
    try:
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(1)
    except CloudError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        if error.hint:
            print(f"{PROGRAM}: {error.hint}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:
        sys.stderr.close()  # `milepost-cloud history | head` is no error
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
