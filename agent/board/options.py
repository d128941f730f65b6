"""The options of ``board apply`` and ``diff``: from the command line to ``Wanted``, and back."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import reduce
from typing import Any, Final

import click
from click.core import ParameterSource
from pydantic import ValidationError

from agent.board.wanted import NO_HAT, Chrony, Gps, Level, Logs, Wanted, parse_rate
from agent.errors import ConfigError

NONE: Final = "none"


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or text == NONE:
        return None
    try:
        return parse_rate(text)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _bitrates(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, int | None]:
    """By interface; ``""`` stands for all."""
    pairs = (text.rpartition("=") for text in texts)
    return {channel: _rate(context, option, rate) for channel, _, rate in pairs}


def _gpio(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or text == NONE:
        return None
    digits = text.upper().removeprefix("GPIO")
    if not digits.isdigit():
        raise click.BadParameter(f"{text!r} is no GPIO, e.g. 18 (not the pin's number)")
    return int(digits)


def _path(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    return None if text == NONE else text


def _choice(kind: type[Enum]) -> click.Choice[str]:
    return click.Choice([one.value for one in kind])


WANTED: Final = (
    click.option("--board", help="pi4, pi5, …; this board's own if it is known. See `board list`."),
    click.option("--hat", help="The CAN HAT, or none. See `board list`."),
    click.option("--can", multiple=True, help="A further CAN interface (USB adapter); repeatable."),
    click.option(
        "--bitrate",
        "bitrates",
        metavar="RATE",
        multiple=True,
        callback=_bitrates,
        help="Of the CAN bus, e.g. 250k; of one interface: can1=250k. Repeatable.  [default: 500k]",
    ),
    click.option(
        "--dbitrate",
        metavar="RATE",
        callback=_rate,
        help="CAN FD's data bit rate, e.g. 2M, or none.",
    ),
    click.option(
        "--restart-ms", type=int, help="From bus-off to the next try; 0: never.  [default: 100]"
    ),
    click.option("--txqueuelen", type=int, help="Frames that may wait.  [default: 1000]"),
    click.option(
        "--listen-only/--no-listen-only",
        default=None,
        help="Send nothing, not even an acknowledgement; OBD-II needs it off.",
    ),
    click.option(
        "--oscillator",
        "oscillator_hz",
        metavar="RATE",
        callback=_rate,
        help="The HAT's crystal, e.g. 8M; else its own.",
    ),
    click.option(
        "--interrupt-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="The HAT's interrupt, where not fixed.",
    ),
    click.option("--gps", type=_choice(Gps), help="Where the receiver is.  [default: uart]"),
    click.option(
        "--gps-device",
        metavar="PATH|none",
        callback=_path,
        help="Its serial port, where it is not the board's usual one.",
    ),
    click.option(
        "--gps-baud",
        metavar="BAUD|none",
        callback=_rate,
        help="Its baud rate; gpsd finds it out if not given.",
    ),
    click.option(
        "--gps-offset",
        "gps_offset_s",
        type=float,
        help="How late its reports come, in seconds.  [default: 0.2]",
    ),
    click.option(
        "--pps-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="Where its pulse a second comes in, e.g. 18.",
    ),
    click.option(
        "--chrony", type=_choice(Chrony), help="How chrony gets its time.  [default: shm]"
    ),
    click.option(
        "--shutdown-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="A button or the ignition: shuts down in order.",
    ),
    click.option(
        "--shutdown-level", type=_choice(Level), help="Level that shuts down.  [default: low]"
    ),
    click.option(
        "--poweroff-gpio",
        metavar="GPIO|none",
        callback=_gpio,
        help="Tells the supply that it may switch off.",
    ),
    click.option(
        "--watchdog/--no-watchdog", default=None, help="The board's own.  [default: watchdog]"
    ),
    click.option("--logs", type=_choice(Logs), help="Where the journal is.  [default: disk]"),
    click.option(
        "--tmp-in-memory/--no-tmp-in-memory",
        default=None,
        help="Temporary files in memory.  [default: tmp-in-memory]",
    ),
)


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """A decorator of commands."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


def given(context: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that stand on the command line."""
    return {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def laid_over(before: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What was wanted before, changed by what is given now; not yet checked."""
    values = {**before, **options}
    if "bitrates" in options:
        rates = {**before.get("bitrates", {}), **options["bitrates"]}
        for_all = rates.pop("", None)
        if for_all is not None:
            values["bitrate"] = for_all
        values["bitrates"] = {name: rate for name, rate in rates.items() if rate is not None}
    return values


def checked(values: Mapping[str, Any]) -> Wanted:
    """Raises ``ConfigError`` that names the option."""
    try:
        return Wanted.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "".join(f"{_option(str(name))}: " for name in first["loc"][:1])
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            option + reason, hint="See `milepost-agent board apply --help`."
        ) from error


def words(wanted: Wanted) -> str:
    """As options, those that differ from the defaults."""
    found = ["--board", wanted.board]
    told = wanted.model_dump(mode="json", exclude_defaults=True)
    for name, value in told.items():
        option = _option(name)
        if name == "board":
            continue
        if isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            found += [word for one in value for word in (option, str(one))]
        elif isinstance(value, dict):
            found += [word for one, of in value.items() for word in (option, f"{one}={of}")]
        else:
            found += [option, str(value)]
    if wanted.hat == NO_HAT:
        found += ["--hat", NO_HAT]
    return shlex.join(found)


def _option(name: str) -> str:
    if name == "bitrates":
        return "--bitrate"
    return "--" + name.removesuffix("_hz").removesuffix("_s").replace("_", "-")
