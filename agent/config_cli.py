"""``milepost-agent config``: the settings in force, where each comes from, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli_common import config_option, fail
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.layer import ConfigLayer


class Setting(NamedTuple):
    """One key; ``origin`` is ``default``, ``file``, ``job <id>`` or ``shadow``."""

    key: str
    value: Any
    origin: str


@click.group()
def config() -> None:
    """The settings in force: the file's, and what was laid over it from afar."""


@config.command(
    epilog="\b\nExamples:\n  milepost-agent config show\n"
    "  milepost-agent config show --all --json --config agent.toml"
)
@config_option
@click.option("--all", "shows_all", is_flag=True, help="Also what nobody has set: the defaults.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects as JSON.")
def show(config_file: Path, *, shows_all: bool, as_json: bool) -> None:
    """Show each setting with where it comes from."""
    from agent.layer import ConfigLayer  # noqa: PLC0415  --help stays quick

    try:
        layer = ConfigLayer(config_file)
        found = [one for one in settings_of(layer) if shows_all or one.origin != "default"]
    except AgentError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2))
        return
    width = max((len(one.key) for one in found), default=0)
    origins = max((len(one.origin) for one in found), default=0)
    for one in found:
        click.echo(f"{one.origin:<{origins}}  {one.key:<{width}}  {json.dumps(one.value)}")
    record = layer.record
    if record.trial is not None:
        click.echo(f"Settings of job {record.trial.job_id} are on trial until they are proven.")
    if record.failed_job:
        click.echo(f"Settings of job {record.failed_job} were rolled back: {record.failure}")
    if record.layer.job_id and not layer.counts:
        click.echo(f"Those of job {record.layer.job_id} do not count: [jobs] mode is off.")
    if layer.in_force().job_id:
        click.echo("Back to the file alone: milepost-agent config reset, and restart the agent.")


@config.command(epilog="\b\nExample:\n  sudo -u milepost milepost-agent config reset")
@config_option
def reset(config_file: Path) -> None:
    """Drop what a job has laid over the file; counts from the agent's next start on."""
    from agent.layer import ConfigLayer  # noqa: PLC0415  --help stays quick

    try:
        layer = ConfigLayer(config_file)
        dropped = layer.in_force()
        layer.reset()
    except AgentError as error:
        fail(error)
    if dropped.job_id:
        click.echo(
            f"Dropped what job {dropped.job_id} had laid over {config_file}. "
            "Now: sudo systemctl restart milepost-agent"
        )
    else:
        click.echo(f"Nothing was laid over {config_file}.")


def settings_of(layer: ConfigLayer) -> Iterator[Setting]:
    """Every setting, in the order of docs/configuration.md; lists of tables are one value.

    Raises:
        ConfigError: the file and the layer do not fit.
    """
    from agent.layer.merge import flat  # noqa: PLC0415  --help stays quick
    from agent.shadow import RemoteSettings  # noqa: PLC0415  likewise

    above = layer.in_force()
    settings = layer.preview(above.settings) if above.job_id else layer.file
    shadow: Mapping[str, Any] = {}
    if settings.shadow.mode.value == "on":
        remote = RemoteSettings(settings, settings.state.dir)
        settings, shadow = remote.settings, remote.account()["changed"]
    origins = (
        ("shadow", {key for key, _ in flat(shadow)}),
        (f"job {above.job_id}", {key for key, _ in flat(above.settings)}),
        ("file", {key for key, _ in flat(layer.table)}),
    )
    for key, value in flat(settings.model_dump(mode="json")):
        origin = next((name for name, keys in origins if _named(key, keys)), "default")
        yield Setting(key, value, origin)


def _named(key: str, keys: set[str]) -> bool:
    """Whether a key, or something within its value, is among these."""
    return any(one == key or one.startswith(f"{key}.") for one in keys)
