"""``milepost-cloud jobs``: have vehicles do something once, and see what became of it."""

from __future__ import annotations

import json
import secrets
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cloud.cli.common import AS_JSON, print_json, print_table
from cloud.cli.database import opened_database
from cloud.cli.jobs_view import as_json as job_json
from cloud.cli.jobs_view import counted, execution_rows, job_rows, told
from cloud.cli.place import Place, with_place
from cloud.cli.vehicles import check_vehicle
from cloud.errors import JobsError

if TYPE_CHECKING:
    from cloud.jobs.ports import JobReport, Jobs
    from contract.jobs import JobDocument

POLL_S: Final = 0.5
OPERATIONS: Final = ("restart", "rotate", "apply-config", "update", "collect-diagnostics")
"""Those of ``contract.jobs.OperationName``, which is slow to load."""

CREATE_EPILOG = """\b
Examples:
  milepost-cloud jobs create restart van-1 --wait 60
  milepost-cloud jobs create rotate van-1 van-2 van-3
  milepost-cloud jobs create apply-config van-1 --parameters '{"settings": {}}'
  milepost-cloud jobs create apply-config van-1 --parameters @settings.toml --wait 600
  milepost-cloud jobs create restart van-1 --aws --region eu-central-1 --wait 60

\b
A vehicle that is not connected begins when it connects, one job at a time, the oldest
first. Exit code with --wait: 0 when every vehicle succeeded, else 1. Operations and their
parameters: docs/jobs.md.
"""

LIST_EPILOG = """\b
Examples:
  milepost-cloud jobs list
  milepost-cloud jobs list --vehicle van-1 --json
"""

DESCRIBE_EPILOG = """\b
Examples:
  milepost-cloud jobs describe restart-3f9a1c2e
  milepost-cloud jobs describe restart-3f9a1c2e --wait 60
"""

CANCEL_EPILOG = """\b
Examples:
  milepost-cloud jobs cancel update-3f9a1c2e
  milepost-cloud jobs cancel update-3f9a1c2e --force
"""

WAIT = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=0,
    help="Seconds to wait for the vehicles, showing how far they are; exit code 1 unless all "
    "succeed.",
)
TIMEOUT = click.option(
    "--timeout",
    "timeout_minutes",
    type=click.IntRange(1, 10_080),
    help="Minutes that a vehicle may take from its start of the job. Without it there is no limit.",
)


@click.group()
def jobs() -> None:
    """Have vehicles restart, rotate their keys, change their config, …, once."""


@jobs.command("create", epilog=CREATE_EPILOG)
@click.argument("operation", type=click.Choice(OPERATIONS))
@click.argument("vehicle_ids", nargs=-1, required=True, metavar="VEHICLE...")
@click.option(
    "--parameters",
    default="{}",
    metavar="JSON|@FILE",
    help="The operation's parameters: a JSON object, or @ and a JSON or TOML file. For "
    "apply-config a TOML file holds the settings themselves, as in agent.toml.",
)
@click.option("--job-id", help="A name of your own; the same one again is refused.")
@click.option("--description", default="", help="A note for people.")
@TIMEOUT
@WAIT
@with_place
@AS_JSON
def jobs_create(
    *,
    operation: str,
    vehicle_ids: tuple[str, ...],
    parameters: str,
    job_id: str | None,
    description: str,
    timeout_minutes: int | None,
    wait_s: float,
    place: Place,
    as_json: bool,
) -> None:
    """Queue OPERATION for one or more vehicles."""
    from contract.jobs import JobDocument  # noqa: PLC0415  slow

    create_job(
        JobDocument(operation, read_parameters(operation, parameters)),
        vehicle_ids,
        place=place,
        job_id=job_id,
        description=description,
        timeout_minutes=timeout_minutes,
        wait_s=wait_s,
        as_json=as_json,
    )


def create_job(
    document: JobDocument,
    vehicle_ids: tuple[str, ...],
    *,
    place: Place,
    job_id: str | None = None,
    description: str = "",
    timeout_minutes: int | None = None,
    wait_s: float = 0,
    as_json: bool = False,
) -> None:
    """What each command that makes a job does; ends the program."""
    from cloud.jobs.ports import NewJob  # noqa: PLC0415  slow

    name = job_id or f"{document.operation}-{secrets.token_hex(4)}"
    with operators_jobs(place) as port:
        for vehicle_id in vehicle_ids:
            if not place.aws:  # AWS IoT refuses it itself
                check_vehicle(place.data_dir, vehicle_id)
        port.create(NewJob(document, vehicle_ids, name, description, timeout_minutes))
        if not as_json:
            print(f"{name}: queued for {', '.join(vehicle_ids)}")
            if not wait_s:
                where = "--aws " if place.aws else ""
                print(f"See what becomes of it: milepost-cloud jobs describe {where}{name}")
        finish(port, name, wait_s, as_json=as_json)


@jobs.command("list", epilog=LIST_EPILOG)
@click.option("--vehicle", "vehicle_id", help="Jobs of this vehicle alone.")
@with_place
@AS_JSON
def jobs_list(*, vehicle_id: str | None, place: Place, as_json: bool) -> None:
    """List the latest jobs, the newest first."""
    with operators_jobs(place) as port:
        found = port.latest(vehicle_id)
    if as_json:
        print_json([job_json(one) for one in found])
    else:
        print_table(job_rows(found), "there are no jobs")


@jobs.command("describe", epilog=DESCRIBE_EPILOG)
@click.argument("job_id")
@WAIT
@with_place
@AS_JSON
def jobs_describe(*, job_id: str, wait_s: float, place: Place, as_json: bool) -> None:
    """Show a job, and how it stands on each vehicle."""
    with operators_jobs(place) as port:
        if not as_json:
            job = port.describe(job_id)
            print(f"{job.job_id}: {job.operation} {json.dumps(job.parameters)}, {job.state.value}")
            if job.description:
                print(job.description)
        finish(port, job_id, wait_s, as_json=as_json, shows=True)


@jobs.command("cancel", epilog=CANCEL_EPILOG)
@click.argument("job_id")
@click.option("--force", is_flag=True, help="Also where a vehicle has begun.")
@with_place
@AS_JSON
def jobs_cancel(*, job_id: str, force: bool, place: Place, as_json: bool) -> None:
    """Cancel a job where it has not begun."""
    with operators_jobs(place) as port:
        job = port.cancel(job_id, force=force)
    if as_json:
        print_json(job_json(job))
        return
    print(f"{job_id}: {counted(job.executions)}")
    begun = [one.vehicle_id for one in job.executions if one.status == "IN_PROGRESS"]
    if begun:
        print(f"{', '.join(begun)}: has begun; --force cancels it there too")


def read_parameters(operation: str, text: str) -> dict[str, Any]:
    """The option's value.

    Raises:
        click.BadParameter: it is neither a JSON object nor a file with one.
    """
    is_toml = False
    try:
        if text.startswith("@"):
            path = Path(text[1:])
            content = path.read_text(encoding="utf-8")
            is_toml = path.suffix == ".toml"
        else:
            content = text
        parameters = tomllib.loads(content) if is_toml else json.loads(content)
        json.dumps(parameters)
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise click.BadParameter(f"{text[:60]}: {error}", param_hint="--parameters") from None
    if not isinstance(parameters, dict):
        raise click.BadParameter(f"{text[:60]}: is no JSON object", param_hint="--parameters")
    if is_toml and operation == "apply-config" and "settings" not in parameters:
        return {"settings": parameters}
    return parameters


def finish(port: Jobs, job_id: str, wait_s: float, *, as_json: bool, shows: bool = False) -> None:
    """Wait if that is wished, print how the job stands, end with the exit code that says it."""
    job = _waited_for(port, job_id, wait_s, quiet=as_json) if wait_s else port.describe(job_id)
    if as_json:
        print_json(job_json(job))
    elif wait_s or shows:
        print_table(execution_rows(job), "no vehicle has this job")
    if not wait_s:
        return
    left = [one.vehicle_id for one in job.executions if not one.status.is_terminal]
    if left:
        raise JobsError(
            "InProgress",
            f"{', '.join(left)}: not done after {wait_s:g} s",
            hint=f"It goes on; a vehicle begins when it connects. Look again: "
            f"milepost-cloud jobs describe {job_id} --wait 60",
        )
    sys.exit(0 if all(one.status == "SUCCEEDED" for one in job.executions) else 1)


def _waited_for(port: Jobs, job_id: str, wait_s: float, *, quiet: bool) -> JobReport:
    from cloud.clock import SystemClock  # noqa: PLC0415  slow

    clock = SystemClock()
    deadline_s = clock.monotonic_s() + wait_s
    seen: Mapping[str, str] = {}
    while True:
        job = port.describe(job_id)
        now = {one.vehicle_id: f"{one.status.value}  {told(one)}" for one in job.executions}
        for vehicle_id, line in now.items():
            if not quiet and seen.get(vehicle_id) != line:
                print(f"{vehicle_id}  {line}", flush=True)
        seen = now
        if all(one.status.is_terminal for one in job.executions):
            return job
        if clock.monotonic_s() >= deadline_s:
            return job
        clock.sleep_s(POLL_S)


@contextmanager
def operators_jobs(place: Place) -> Iterator[Jobs]:
    """The jobs of the one-machine cloud, or of AWS.

    Raises:
        ConfigError: it is no data directory, or AWS cannot be asked.
    """
    if place.aws:
        from cloud.stores.aws_jobs import AwsJobs  # noqa: PLC0415  slow

        yield AwsJobs(place.session().client("iot"))
        return
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next
    from cloud.stores.sqlite_jobs import SqliteJobs  # noqa: PLC0415  slow

    with opened_database(place.data_dir) as database:
        yield SqliteJobs(database, SystemClock())
