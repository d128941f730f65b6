"""``milepost-agent outbox``: look into the outbox, while the agent runs or not."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.budgets import caps_bytes, describe
from agent.budgets import record as records
from agent.cli_common import config_option, fail
from agent.control import budget_lines
from agent.delivery import OUTBOX_FILE
from agent.errors import AgentError, StateError
from agent.outbox.salvage_jobs import kept_files
from agent.outbox.verify import verify as verify_file

if TYPE_CHECKING:
    from sqlite_utils import Database

    from agent.config import AgentSettings

TABLES: Final = ("events", "samples")
_PAGE_ROWS: Final = 500


def open_for_reading(path: Path) -> Database:
    """The outbox's file, read-only.

    Raises:
        StateError: it is not there, or is no outbox.
    """
    from sqlite_utils import Database  # noqa: PLC0415  0.1 s that only these commands pay

    if not path.exists():
        raise StateError(
            f"there is no outbox at {path}", hint="The agent makes it when it first runs."
        )
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)
        db = Database(connection)
        missing = {"samples", "events", "drops", "refused"} - set(db.table_names())
    except sqlite3.Error as error:
        raise StateError(
            f"{path} cannot be read: {error}",
            hint="The agent sets a damaged file aside when it starts.",
        ) from error
    if missing:
        raise StateError(
            f"{path} is no outbox of this version", hint="Start the agent once; it migrates it."
        )
    return db


def summary(path: Path) -> dict[str, Any]:
    """What waits on disk: counts, spans, drops by reason."""
    db = open_for_reading(path)
    result: dict[str, Any] = {"file": str(path), "file_bytes": path.stat().st_size}
    for table in TABLES:
        rows = db.table(table)
        newest = next(iter(rows.rows_where(order_by="id desc", limit=1)), None)
        oldest = next(iter(rows.rows_where(order_by="id", limit=1)), None)
        result[table] = {
            "waiting": rows.count,
            "oldest": _timestamp(oldest),
            "newest": _timestamp(newest),
        }
    result["dropped"] = {row["reason"]: row["messages"] for row in db.table("drops").rows}
    result["refused"] = db.table("refused").count
    result["damaged_files"] = [str(kept) for kept in kept_files(path)]
    return result


def messages(path: Path, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The waiting messages in the order in which they will be sent: events, then samples."""
    db = open_for_reading(path)
    left = limit
    for table in TABLES:
        last = -(2**63)  # those of salvaged rows are negative
        # page by page: a reader that stays open would keep the agent from checkpointing
        while left is None or left > 0:
            page = min(_PAGE_ROWS, _PAGE_ROWS if left is None else left)
            rows = list(db.table(table).rows_where("id > ?", [last], order_by="id", limit=page))
            for row in rows:
                yield json.loads(row["payload"])
            if left is not None:
                left -= len(rows)
            if len(rows) < page:
                break
            last = rows[-1]["id"]


def _timestamp(row: dict[str, Any] | None) -> str | None:
    if row is None:
        return None
    return str(json.loads(row["payload"]).get("timestamp"))


def _settings_of(config_file: Path) -> AgentSettings:
    from agent.config.load import load  # noqa: PLC0415  pydantic's cost only where it is needed

    return load(config_file)


def _outbox_of(config_file: Path) -> Path:
    return _settings_of(config_file).state.dir / OUTBOX_FILE


@click.group(
    epilog="\b\nExamples:\n  milepost-agent outbox status --config agent.toml\n"
    "  milepost-agent outbox export --config agent.toml > waiting.jsonl",
)
def outbox() -> None:
    """Look into the outbox: what waits on disk. Works while the agent runs.

    What is younger than outbox.flush_interval_s is in the agent's memory only.
    """


@outbox.command(
    epilog="\b\nExamples:\n  milepost-agent outbox status --config agent.toml\n"
    "  milepost-agent outbox status --config agent.toml --json",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(config_file: Path, *, as_json: bool) -> None:
    """How much waits, since when, what was dropped, and what the day's budgets have used.

    The budgets are as of when they were last noted; `milepost-agent status` asks the agent.
    """
    try:
        settings = _settings_of(config_file)
        found = summary(settings.state.dir / OUTBOX_FILE)
        found["budgets"] = describe(records.read(settings.state.dir), caps_bytes(settings.budget))
    except AgentError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['file']}: {found['file_bytes']} bytes")
    for table in TABLES:
        part = found[table]
        span = f", {part['oldest']} to {part['newest']}" if part["waiting"] else ""
        click.echo(f"{part['waiting']} {table} wait{span}")
    for reason, count in found["dropped"].items():
        click.echo(f"{count} dropped: {reason}")
    for kept in found["damaged_files"]:
        click.echo(f"damaged file kept: {kept}")
    for name, text in budget_lines(found["budgets"]):
        click.echo(f"{name}: {text}")


@outbox.command(
    epilog="\b\nExamples:\n  milepost-agent outbox peek --config agent.toml --limit 3",
)
@config_option
@click.option(
    "--limit", default=10, show_default=True, type=click.IntRange(min=1), help="How many."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, one list.")
def peek(config_file: Path, limit: int, *, as_json: bool) -> None:
    """The messages that will be sent next, oldest first."""
    try:
        found = list(messages(_outbox_of(config_file), limit=limit))
    except AgentError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for message in found:
        kind = message.get("event_type", "sample")
        click.echo(f"{message['timestamp']}  {message['run_id']}/{message['sequence']}  {kind}")
    if not found:
        click.echo("nothing waits")


@outbox.command(
    epilog="\b\nExamples:\n  milepost-agent outbox export --config agent.toml > waiting.jsonl",
)
@config_option
def export(config_file: Path) -> None:
    """Every waiting message as JSON Lines, to standard output; nothing is removed."""
    try:
        for message in messages(_outbox_of(config_file)):
            click.echo(json.dumps(message, separators=(",", ":")))
    except AgentError as error:
        fail(error)


@outbox.command(
    epilog="\b\nExamples:\n  milepost-agent outbox verify --config agent.toml\n"
    "  milepost-agent outbox verify --config agent.toml --json",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(config_file: Path, *, as_json: bool) -> None:
    """Read every page and every message; exit code 1 if anything is wrong."""
    try:
        path = _outbox_of(config_file)
        if not path.exists():
            raise StateError(
                f"there is no outbox at {path}", hint="The agent makes it when it first runs."
            )
        found = verify_file(path)
    except AgentError as error:
        fail(error)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        for table, count in found.messages.items():
            click.echo(f"{count} {table} wait")
        for kept in found.to_salvage:
            click.echo(f"damaged file waits for its salvage: {kept}")
        for line in found.errors:
            click.echo(line)
        click.echo(f"{found.file}: {'sound' if found.sound else 'NOT sound'}")
        if not found.sound:
            click.echo("The running agent sets a damaged file aside and salvages it by itself.")
    if not found.sound:
        sys.exit(1)
