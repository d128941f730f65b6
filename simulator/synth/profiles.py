"""The vehicle profiles that come with the simulator, one for each preset of the agent."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Final

from simulator.errors import FileError

BUILT_IN: Final = "light-van"


def profile_folder() -> Path:
    """Where they are, with the DBCs that they name."""
    return Path(str(resources.files("simulator"))) / "vehicles"


def profile_names() -> list[str]:
    """All of them."""
    return sorted(path.stem for path in profile_folder().glob("*.toml"))


def profile_path(name: str) -> Path:
    """The file of a profile that comes with the simulator, or of somebody's own.

    Raises:
        FileError: there is none of that name.
    """
    if name in profile_names():
        return profile_folder() / f"{name}.toml"
    if name.endswith(".toml"):
        return Path(name)
    near = difflib.get_close_matches(name, profile_names(), n=1)
    raise FileError(
        f"there is no vehicle {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        hint=f"choose one of {', '.join(profile_names())}, or give a file that ends with .toml",
    )
