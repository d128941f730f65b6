"""The scenarios that come with the simulator, and where a scenario's file is."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from simulator.errors import FileError


def library_folder() -> Path:
    """Where they are."""
    return Path(str(resources.files("simulator"))) / "scenarios"


def library() -> dict[str, Path]:
    """All of them, by name."""
    return {path.stem: path for path in sorted(library_folder().glob("*.toml"))}


def find(name: str) -> Path:
    """A scenario of the library by its name, or a file by its path.

    Raises:
        FileError: it is neither.
    """
    known = library()
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    near = difflib.get_close_matches(name, known, n=1)
    raise FileError(
        f"there is no scenario {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        hint="`milepost-sim scenario list` has those that come with the simulator; "
        "else give a file's path",
    )
