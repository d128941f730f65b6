"""``python -m tests.rigs.crash``: kill the real agent again and again, count what is lost."""

import json
import random
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from tests.rigs.crash.campaign import Campaign
from tests.rigs.crash.vehicle import FLUSH_INTERVAL_S

DEFAULT_SLACK_S = 0.25


def in_words(verdict, *, limit_s, seed, took_s):
    """The report for a person."""
    by_moment = ", ".join(f"{n} {name}" for name, n in sorted(verdict.kills_by_moment.items()))
    by_network = ", ".join(f"{n} {name}" for name, n in sorted(verdict.kills_by_network.items()))
    lost = f"{verdict.lost_in_last_interval}, the oldest {verdict.oldest_lost_s:.2f} s old"
    lines = [
        f"{verdict.kills} kills in {took_s:.0f} s (seed {seed})",
        f"  by moment: {by_moment}",
        f"  by network: {by_network}",
        f"  {verdict.ended_before_the_kill} stops were over before their kill",
        f"messages created: {verdict.created_messages}",
        f"arrived: {verdict.distinct_messages}, and {verdict.duplicate_messages} times again",
        f"publishes taken by the broker: {verdict.publishes_broker_took}",
        f"received by the subscriber: {verdict.publishes_received}",
        f"acknowledged, then missing: {verdict.acknowledged_then_missing}",
        f"lost though older than {limit_s:g} s or on disk: {verdict.lost_older_than_limit}",
        f"lost within the last {limit_s:g} s before a kill: {lost}",
        f"  (when a message was made is known to {verdict.watched_within_s:.2f} s)",
        f"same identity, other content: {verdict.changed_messages}",
        f"dropped: {verdict.dropped_messages}",
        f"databases not sound: {verdict.unsound_databases}",
        f"previous runs told right: {verdict.previous_runs_checked}",
        *(f"FAULT: {fault}" for fault in verdict.faults[:50]),
        "passed" if verdict.passed else f"FAILED: {len(verdict.faults)} faults",
    ]
    return "\n".join(lines)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  make test-crash KILLS=500
  python -m tests.rigs.crash --kills 50
  python -m tests.rigs.crash --kills 50 --seed 1234 --keep
Exit code: 0 nothing was lost, 1 a promise was broken.
""",
)
@click.option("--kills", default=100, show_default=True, help="How many kill -9.")
@click.option("--vehicles", default=4, show_default=True, help="Agents at the same time.")
@click.option("--seed", type=int, help="Chooses the moments; printed, so a campaign can be redone.")
@click.option("--port", default=18883, show_default=True, help="TCP port for the broker.")
@click.option("--load/--no-load", default=True, show_default=True, help="Disk and CPU load beside.")
@click.option(
    "--slack",
    "slack_s",
    default=DEFAULT_SLACK_S,
    show_default=True,
    help=f"Seconds that a commit may take beyond the flush interval of {FLUSH_INTERVAL_S} s.",
)
@click.option("--keep", is_flag=True, help="Keep the folder; it is kept after a failure anyway.")
def main(*, kills, vehicles, seed, port, load, slack_s, keep):
    """Run real agents with gpsd, TLS and Mosquitto, kill -9 them, and judge what arrived.

    Progress goes to standard error; the report, in words and as one line of JSON, to
    standard output.
    """
    seed = seed if seed is not None else random.SystemRandom().randrange(10**6)
    folder = Path(tempfile.mkdtemp(prefix="milepost-crash-"))
    campaign = Campaign(
        folder,
        kills=kills,
        vehicles=vehicles,
        seed=seed,
        broker_port=port,
        load=load,
        tell=lambda line: click.echo(line, err=True),
        slack_s=slack_s,
    )
    click.echo(f"seed {seed}, {kills} kills of {vehicles} agents, in {folder}", err=True)
    verdict, took_s = campaign.run()
    click.echo(in_words(verdict, limit_s=campaign.limit_s, seed=seed, took_s=took_s))
    figures = {**asdict(verdict), "passed": verdict.passed, "seed": seed, "took_s": round(took_s)}
    click.echo(json.dumps(figures))
    if verdict.passed and not keep:
        shutil.rmtree(folder)
    else:
        click.echo(f"logs and databases are in {folder}", err=True)
    sys.exit(0 if verdict.passed else 1)


if __name__ == "__main__":
    main()
