"""``milepost-sim scenario``: run, check and list scenarios."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from simulator.demo.screen import Screen
from simulator.errors import FileError
from simulator.scenario.drive import profile_of
from simulator.scenario.faults import FAULTS
from simulator.scenario.library import find, library
from simulator.scenario.model import Scenario, load_scenario

EXIT_USAGE = 2

FAULT_LINES = "\n".join(f"  {name.value:<13} {kind.does}" for name, kind in FAULTS.items())


@click.group(
    epilog="""\b
Examples:
  milepost-sim scenario list
  milepost-sim scenario run gps-loss brown-out
  milepost-sim scenario check my-van.toml
  milepost-sim scenario run my-van.toml --report report.json
"""
)
def scenario() -> None:
    """A vehicle, a drive and faults by name, and whether all came out as expected."""


@scenario.command(
    "list",
    epilog="""\b
Example:
  milepost-sim scenario list
""",
)
def list_scenarios() -> None:
    """The scenarios that come with the simulator."""
    found = {name: load_scenario(path) for name, path in library().items()}
    width = max(map(len, found))
    for name, one in found.items():
        click.echo(f"{name:<{width}}  {one.title}")


@scenario.command(
    epilog="""\b
Examples:
  milepost-sim scenario check my-van.toml
  milepost-sim scenario check gps-loss
"""
)
@click.argument("names", metavar="SCENARIO...", nargs=-1, required=True)
def check(names: tuple[str, ...]) -> None:
    """Read scenarios and say what is wrong with them, without running."""
    for name, one in _load(names):
        faults = ", ".join(fault.name.value for fault in one.fault) or "none"
        click.echo(f"{name}: good. Preset {one.vehicle.preset}, faults: {faults}.")


@scenario.command(
    epilog=f"""\b
Examples:
  milepost-sim scenario run gps-loss
  milepost-sim scenario run my-van.toml --seed 7
  milepost-sim scenario run --all --report report.json

\b
Faults:
{FAULT_LINES}

The file is described in docs/simulator.md. Exit code: 0 all passed, 1 one failed, 2 a
scenario is wrong.
"""
)
@click.argument("names", metavar="SCENARIO...", nargs=-1)
@click.option("--all", "run_all", is_flag=True, help="All that come with the simulator.")
@click.option("--seed", type=int, help="Another drive than the scenario's: in place of its seed.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("scenario-data"),
    show_default=True,
    help="Where everything is kept; emptied of the run before.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report there too (JSON). [default: DATA/report.json only]",
)
def run(
    *,
    names: tuple[str, ...],
    run_all: bool,
    seed: int | None,
    data: Path,
    report: Path | None,
) -> None:
    """Run scenarios side by side: real agents, one real cloud, a report.

    SCENARIO is a name of `milepost-sim scenario list` or a file.
    """
    if run_all is bool(names):
        raise click.UsageError("name scenarios, or give --all")
    if report is not None and not report.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    scenarios = _load(tuple(library()) if run_all else names)
    from simulator.scenario.run import RunOptions, ScenarioRun  # noqa: PLC0415  slow to import

    with Screen() as screen:
        options = RunOptions(scenarios=scenarios, data=data, report=report, seed=seed)
        code = ScenarioRun(options, screen).run()
    sys.exit(code)


def _load(names: tuple[str, ...]) -> list[tuple[str, Scenario]]:
    """Every scenario, or an end with code 2 and all that is wrong."""
    scenarios, wrong = [], []
    for name in names:
        try:
            path = find(name)
            one = load_scenario(path)
            profile_of(one.vehicle)
            scenarios.append((path.stem, one))
        except FileError as error:
            wrong.append(f"{error}\n  {error.hint}")
    if wrong:
        click.echo("Error: " + "\n".join(wrong), err=True)
        sys.exit(EXIT_USAGE)
    return scenarios
