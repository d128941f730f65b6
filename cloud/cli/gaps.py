"""``milepost-cloud gaps``: what is missing of one vehicle, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cloud.cli.common import AS_JSON, DATA, print_json
from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.ports import LedgerStore

Json = dict[str, Any]

LATE_AFTER_S: Final = {
    "10s": 10,
    "30s": 30,
    "60s": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3_600,
    "6h": 21_600,
    "1d": 86_400,
    "7d": 604_800,
}
SPAN: Final = re.compile(r"(\d+)(m|h|d)")
SPAN_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
UNEXPLAINED_HINTS: Final = (
    "On the vehicle, `milepost-agent status` says whether its own books balance.",
    "`milepost-cloud dead-letters` has what arrived and could not be taken.",
    "What else to look at: docs/accounting.md.",
)

EPILOG = """\b
Examples:
  milepost-cloud gaps --vehicle van-1
  milepost-cloud gaps --vehicle van-1 --since 24h --late-after 5m
  milepost-cloud gaps --vehicle van-1 --run f3a1c2d4 --json
  milepost-cloud gaps --vehicle van-1 --stack milepost   # the cloud on AWS

\b
Exit code: 0 when everything missing is explained, 1 when something is not.
"""


@click.command(epilog=EPILOG)
@click.option("--vehicle", "vehicle_id", required=True, help="The vehicle_id.")
@click.option("--run", "run_id", help="Only this run of the agent.")
@click.option("--since", help="Only runs heard of since then: 90m, 24h, 7d or a timestamp.")
@click.option(
    "--late-after",
    type=click.Choice(list(LATE_AFTER_S)),
    default="60s",
    show_default=True,
    help="Received longer than this after its own timestamp is late.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Gaps shown of each run; --json has all.",
)
@DATA
@click.option("--stack", help="Ask the cloud on AWS: the name of its CloudFormation stack.")
@AS_JSON
@click.pass_context
def gaps(
    context: click.Context,
    *,
    vehicle_id: str,
    run_id: str | None,
    since: str | None,
    late_after: str,
    limit: int,
    data_dir: Path,
    stack: str | None,
    as_json: bool,
) -> None:
    """What is missing of a vehicle, and why; 1 if something is missing for no known reason."""
    from cloud.accounting.figures import run_figures, summary  # noqa: PLC0415  slow
    from cloud.accounting.reconcile import reconcile  # noqa: PLC0415  likewise
    from cloud.clock import SystemClock, milliseconds  # noqa: PLC0415  likewise

    since_ms = 0 if since is None else milliseconds(moment_of(since, SystemClock().utc()))
    with _ledger(data_dir, stack) as ledger:
        heads = ledger.heads(vehicle_id)
        if not heads:
            raise ConfigError(
                f"nothing has arrived of a vehicle {vehicle_id!r}",
                hint="`milepost-cloud vehicles` lists those that have reported.",
            )
        runs = reconcile(heads, lambda run: ledger.ranges(vehicle_id, run))
    if run_id is not None and run_id not in {run.head.run_id for run in runs}:
        raise ConfigError(
            f"{vehicle_id} has no run {run_id!r}",
            hint=f"known: {', '.join(run.head.run_id for run in runs[-10:])}",
        )
    shown = [
        run
        for run in runs
        if run_id in {None, run.head.run_id}
        and max(run.head.received_ms, run.head.told.received_ms if run.head.told else 0) >= since_ms
    ]
    late_after_s = LATE_AFTER_S[late_after]
    figures: Json = {
        "vehicle_id": vehicle_id,
        "late_after_s": late_after_s,
        **summary(shown, late_after_s),
        "runs": [run_figures(run, late_after_s) for run in shown],
    }
    if as_json:
        print_json(figures)
    else:
        _print(figures, late_after, limit)
    if figures["unexplained"]:
        context.exit(1)


def moment_of(text: str, now: datetime) -> datetime:
    """``24h`` before now, or the timestamp.

    Raises:
        click.BadParameter: it is neither.
    """
    span = SPAN.fullmatch(text)
    try:
        if span is not None:
            return now - timedelta(**{SPAN_UNITS[span[2]]: int(span[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is neither like 90m, 24h, 7d nor like 2025-01-15T14:00:00Z",
            param_hint="--since",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@contextmanager
def _ledger(data_dir: Path, stack: str | None) -> Iterator[LedgerStore]:
    if stack is not None:
        from cloud.stores.aws import ledger_of_stack  # noqa: PLC0415  boto3

        yield ledger_of_stack(stack)
        return
    from cloud.stores.queries import Queries  # noqa: PLC0415  slow

    queries = Queries.open(data_dir)
    try:
        yield queries.ledger
    finally:
        queries.close()


def _print(figures: Json, late_after: str, limit: int) -> None:
    runs = figures["runs"]
    verdict = f"{figures['unexplained']} UNEXPLAINED" if figures["unexplained"] else "all explained"
    print(
        f"{figures['vehicle_id']}: {_plural(len(runs), 'run')},"
        f" {figures['received']} received, {figures['missing']} missing"
        + (f" ({verdict})" if figures["missing"] else "")
    )
    for run in runs:
        print()
        for line in _run_lines(run, late_after, limit):
            print(line)
    if figures["unexplained"]:
        print()
        print(f"{_plural(figures['unexplained'], 'message')} missing for no known reason.")
        for hint in UNEXPLAINED_HINTS:
            print(f"  {hint}")


def _run_lines(run: Json, late_after: str, limit: int) -> Iterator[str]:
    span = f"{run['first_timestamp'] or 'unknown'} to {run['last_timestamp'] or 'unknown'}"
    yield f"run {run['run_id']}  {run['state']}  {span}"
    yield (
        f"  received   {run['received']} of {run['last_sequence']}"
        f" ({_plural(run['samples'], 'sample')}, {_plural(run['events'], 'event')})"
    )
    yield (
        f"  late       {run['late']}, more than {late_after} after their own time;"
        f" the latest by {duration(run['max_lateness_s'])}"
    )
    if run["untimed"]:
        yield f"  untimed    {run['untimed']}: without a trusted time nobody knows if late"
    yield f"  duplicate  {run['duplicates']}"
    yield f"  missing    {run['missing']}{_because(run['causes'])}"
    for gap in run["gaps"][:limit]:
        yield f"    {_gap_line(gap)}"
    if len(run["gaps"]) > limit:
        yield f"    and {_plural(len(run['gaps']) - limit, 'gap')} more, see --limit and --json"
    if run["tail_unknown_s"] is not None:
        yield (
            "  tail       the run ended without notice: what was created in its last"
            f" {run['tail_unknown_s']:g} s may be lost without a trace"
        )


def _gap_line(gap: Json) -> str:
    place = str(gap["first"]) if gap["first"] == gap["last"] else f"{gap['first']} to {gap['last']}"
    after, before = gap["after_timestamp"], gap["before_timestamp"]
    if after and before:
        length_s = (datetime.fromisoformat(before) - datetime.fromisoformat(after)).total_seconds()
        span = f"between {after} and {before}, {duration(length_s)}"
    elif after or before:
        span = f"after {after}" if after else f"before {before}"
    else:
        span = "at an unknown time"
    return f"{place}, {span}{_because(gap['causes'])}"


def _because(causes: dict[str, int]) -> str:
    from cloud.accounting.figures import words  # noqa: PLC0415  with the rest

    told = ", ".join(f"{messages} {words(cause)}" for cause, messages in causes.items())
    return f": {told}" if told else ""


def duration(length_s: float) -> str:
    """In words, with two units at most."""
    if length_s < 60:
        return f"{length_s:.3g} s"
    minutes, seconds = divmod(round(length_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
