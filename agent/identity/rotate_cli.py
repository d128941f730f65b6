"""``milepost-agent rotate``: ask the running agent for a new key and certificate."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from agent.cli_common import EXIT_FAILED, PROGRAM, config_option, fail
from agent.config.load import load
from agent.control import ask, tell
from agent.errors import AgentError, ControlError

_LOOK_S: Final = 0.5
_GONE_S: Final = 60.0
"""An agent that is restarted meanwhile is back in that time, and goes on."""


@click.command(
    epilog="""\b
Examples:
  milepost-agent rotate --wait
  milepost-agent rotate --if-due
The present certificate stays in use until the new one has proven that it works; where it
does not, nothing has changed. Exit codes: 0 done, begun or not due; 1 failed.
"""
)
@config_option
@click.option("--if-due", is_flag=True, help="Only if the certificate expires soon, or is old.")
@click.option("--wait", is_flag=True, help="Wait for the end, and tell each step.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="Seconds to wait for the end; the rotation itself goes on.",
)
def rotate(config_file: Path, *, if_due: bool, wait: bool, timeout_s: float) -> None:
    """Give this vehicle its next key and certificate."""
    try:
        runtime_dir = load(config_file).state.runtime_dir
        answer = tell(runtime_dir, "rotate", if_due=if_due)
        if answer["under_way"]:
            click.echo(f"a rotation is under way: {answer['under_way']}")
        elif not answer["began"]:
            click.echo(_not_due(ask(runtime_dir)))
            return
        elif not wait:
            click.echo(f"begun; how it goes: {PROGRAM} status")
        if wait:
            _see_it_through(runtime_dir, answer["after_number"], timeout_s)
    except AgentError as error:
        fail(error)


def _not_due(account: dict[str, Any]) -> str:
    identity = account.get("identity")
    if not identity:
        return "nothing to do: the config names the certificate, so it is rotated by hand"
    if account.get("time_quality") == "unsynced":
        return "nothing to do: the board's clock is not set, so nobody knows what is due"
    due = identity.get("rotation_due_at")
    return f"not due: it will be on {due[:10]}" if due else "not due: never by itself"


def _see_it_through(runtime_dir: Path, after_number: int, timeout_s: float) -> None:
    """Tell the steps up to the end of the rotation that follows ``after_number``."""
    until_s = time.monotonic() + timeout_s
    seen_s, told = time.monotonic(), ""
    while time.monotonic() < until_s:
        try:
            identity = ask(runtime_dir).get("identity") or {}
            seen_s = time.monotonic()
        except ControlError:
            if time.monotonic() - seen_s > _GONE_S:
                raise
            identity = {}
        last = identity.get("last_rotation") or {}
        if last.get("number", 0) > after_number:
            _tell_end(last, identity)
            return
        step = identity.get("step") or ""
        if step and step != told:
            told = step
            click.echo(f"{step} ...", err=True)
        time.sleep(_LOOK_S)
    click.echo(
        f"{PROGRAM}: it has not ended after {timeout_s:g} s, and goes on in the agent"
        f" ({told or 'it waits for a connection'})\nHow it goes: {PROGRAM} status",
        err=True,
    )
    sys.exit(EXIT_FAILED)


def _tell_end(last: dict[str, Any], identity: dict[str, Any]) -> None:
    if not last["succeeded"]:
        click.echo(
            f"{PROGRAM}: not rotated, the certificate is as before: {last['reason']}", err=True
        )
        sys.exit(EXIT_FAILED)
    until = (identity.get("valid_until") or "unknown")[:10]
    click.echo(f"rotated: certificate {last['certificate_id'][:12]}, valid until {until}")
