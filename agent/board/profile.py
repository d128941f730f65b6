"""Boards and HATs: data in ``firmware-config/boards``, ``agent/board/data`` in the package."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agent.errors import ConfigError

MODEL: Final = Path("/proc/device-tree/model")

_Profile = TypeVar("_Profile")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Uart(_Data):
    """The UART on the 40-pin header."""

    device: str
    gpios: tuple[int, ...] = ()
    config: tuple[str, ...] = ()
    """Lines of config.txt that put it there."""
    consoles: tuple[str, ...] = ()
    """Names that a ``console=`` of cmdline.txt has for it."""
    masked_units: tuple[str, ...] = ()


class OwnCan(_Data):
    """A CAN controller on the board itself."""

    channels: tuple[str, ...]
    is_fd: bool = False
    units: tuple[str, ...] = ()
    """Templates of units that load its driver."""
    notes: tuple[str, ...] = ()


class Board(_Data):
    """A kind of board."""

    title: str
    family: Literal["raspberry-pi", "jetson", "linux"]
    models: tuple[str, ...]
    """How ``/proc/device-tree/model`` begins on it."""
    watchdog_s: int
    """What its hardware watchdog can count to, or less."""
    config: tuple[str, ...] = ()
    cmdline: tuple[str, ...] = ()
    """Words for the kernel."""
    uart: Uart | None = None
    can: OwnCan | None = None


class Hat(_Data):
    """A CAN HAT."""

    title: str
    config: tuple[str, ...]
    channels: tuple[str, ...]
    is_fd: bool = False
    oscillator_hz: int | None = None
    interrupt_gpio: int | None = None
    """Where it can be chosen; a HAT with fixed wiring has it in ``config`` and ``gpios``."""
    gpios: tuple[int, ...] = Field(default=())


@cache
def boards() -> Mapping[str, Board]:
    """All boards, by name."""
    paths = sorted(path for path in _folder().glob("*.toml") if path.stem != "hats")
    return {path.stem: Board.model_validate(_toml(path)) for path in paths}


@cache
def hats() -> Mapping[str, Hat]:
    """All HATs, by name."""
    return {name: Hat.model_validate(data) for name, data in _toml(_folder() / "hats.toml").items()}


def board_named(name: str) -> Board:
    """The board of that name.

    Raises:
        ConfigError: there is none; names those there are.
    """
    return _named("board", name, boards())


def hat_named(name: str) -> Hat:
    """Like ``board_named``, for HATs."""
    return _named("HAT", name, hats())


def detected(model: str) -> str | None:
    """The name of the board whose device tree says ``model``; ``None`` for an unknown one."""
    for name, board in boards().items():
        if board.models and model.startswith(board.models):
            return name
    return None


def this_model(path: Path = MODEL) -> str:
    """What this board's device tree calls it; ``""`` where there is none, e.g. on a PC."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def template(name: str, **values: object) -> str:
    """A file of ``templates/``, filled in."""
    text = (_folder() / "templates" / name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _named(kind: str, name: str, known: Mapping[str, _Profile]) -> _Profile:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"there is no {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        hint="`milepost-agent board list` lists boards and HATs.",
    )


def _folder() -> Path:
    return Path(str(resources.files("agent"))) / "board" / "data"


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))
