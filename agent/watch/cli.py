"""``milepost-agent watch``: the command, its loop and its keys."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console, ConsoleDimensions
from rich.live import Live

from agent.cli_common import config_option, fail
from agent.control import ask
from agent.errors import AgentError, ControlError
from agent.host import boottime_s
from agent.watch import words
from agent.watch.picture import picture
from agent.watch.rates import Look, rates_between


@click.command(
    epilog="""\b
Examples:
  milepost-agent watch
  milepost-agent watch --config agent.toml --interval 0.2
  milepost-agent watch --once
  milepost-agent watch --json | jq --unbuffered .last_sample.motion.speed_kmh
\b
q or Ctrl-C ends it. It draws what the agent's control socket tells and changes nothing.
"""
)
@config_option
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Print one picture, after two looks, and end; so it does without a terminal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON, one line a look.")
def watch(config_file: Path, interval_s: float, *, once: bool, as_json: bool) -> None:
    """Watch the running agent: mode, fix, signals, CAN, outbox, link, budgets, faults."""
    from agent.config.parts import load_parts  # noqa: PLC0415  --help stays quick

    parts = load_parts(config_file)
    try:
        if parts.fault is not None and (parts.is_denied or not parts.is_there):
            raise parts.fault
        first = _look(parts.state.runtime_dir)
        if as_json:
            _print_lines(parts.state.runtime_dir, first, interval_s, once=once)
        elif once or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            _print_once(parts.state.runtime_dir, first, interval_s)
        else:
            _draw(parts.state.runtime_dir, first, interval_s)
    except AgentError as error:
        fail(error)
    except (KeyboardInterrupt, BrokenPipeError):
        # the reader of a pipe went away; the interpreter must not find it out once more
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _look(runtime_dir: Path) -> Look:
    account = ask(runtime_dir)
    return Look(account, boottime_s())


def _print_once(runtime_dir: Path, first: Look, interval_s: float) -> None:
    _wait(interval_s, None)
    now = _look(runtime_dir)
    console = Console()
    rates = rates_between(first, now)
    console.print(picture(now.account, rates, width=console.width, height=None))


def _print_lines(runtime_dir: Path, first: Look, interval_s: float, *, once: bool) -> None:
    before = first
    while True:
        _wait(interval_s, None)
        now = _look(runtime_dir)
        rates = rates_between(before, now)
        told: dict[str, Any] = {**now.account, "rates": rates.as_json() if rates else None}
        click.echo(json.dumps(told))
        if once:
            return
        before = now


def _draw(runtime_dir: Path, first: Look, interval_s: float) -> None:
    """Until told to end; an agent that ends meanwhile is waited for."""
    console = Console()
    before: Look | None = None
    now, silent = first, ""
    next_s = first.at_s + interval_s
    with (
        _resizes() as resized,
        _keys() as keyboard,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            # asked each time: rich would go by $COLUMNS, which some shells set once and for all
            width, height = os.get_terminal_size(sys.stdout.fileno())
            console.size = ConsoleDimensions(width, height)
            rates = rates_between(before, now)
            live.update(
                picture(now.account, rates, width=width, height=height, silent=silent), refresh=True
            )
            if _wait(next_s - boottime_s(), keyboard, resized):
                return
            if boottime_s() < next_s:
                continue  # the window has another size; the counters are the same
            next_s = max(next_s + interval_s, boottime_s())
            try:
                before, now, silent = now, _look(runtime_dir), ""
            except ControlError as error:
                gone_s = boottime_s() - now.at_s
                silent = f"no answer for {words.duration(gone_s)}: {error.message}"


def _wait(duration_s: float, keyboard: int | None, resized: int | None = None) -> bool:
    """Whether the user wants to end; returns early on a key or another size of the window."""
    watched = [source for source in (keyboard, resized) if source is not None]
    ready, _, _ = select.select(watched, [], [], max(0.0, duration_s))
    if resized in ready and resized is not None:
        os.read(resized, 512)
    if keyboard in ready and keyboard is not None:
        pressed = os.read(keyboard, 64)
        return pressed in {b"", b"q", b"Q"}
    return False


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The keyboard, key by key; Ctrl-C stays Ctrl-C."""
    if not sys.stdin.isatty():
        yield None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield number
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """A file descriptor that can be read when the window has got another size."""
    told, teller = os.pipe()
    os.set_blocking(teller, False)

    def tell(_number: int, _frame: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(teller, b"\0")

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield told
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(told)
        os.close(teller)
