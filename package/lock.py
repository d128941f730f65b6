"""``package/requirements.lock``: every wheel of the package, by version and by hash.

Written by uv (``make lock``) for all architectures and Python versions at once, from the
extras of ``pyproject.toml`` and the versions of ``constraints.txt``. pip installs from it
with ``--require-hashes``, so nothing gets into a package that was not seen when the lock
was made.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from package.errors import PackageError
from package.platforms import PLATFORMS, PYTHONS, Platform

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT / "package/requirements.lock"
SOURCE_ONLY: Final = ("gpsd-py3",)
"""Published without a wheel; pure Python, built here from the pinned source."""

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Pinned:
    """One line of the lock."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """As pip compares names."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The one version."""
        (specifier,) = self.requirement.specifier
        return specifier.version

    @property
    def line(self) -> str:
        """For a requirements file of one platform: the marker has been looked at."""
        hashes = " ".join(f"--hash={one}" for one in self.hashes)
        return f"{self.requirement.name}=={self.version} {hashes}"


def read(text: str) -> list[Pinned]:
    """What a lock's text pins.

    Raises:
        PackageError: a line that is not pinned to one version and at least one hash.
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#", 1)[0].strip()
        if not words:
            continue
        hashes = tuple(_HASH.findall(words))
        try:
            requirement = Requirement(_HASH.sub("", words).strip())
        except InvalidRequirement as error:
            raise PackageError(f"not a pinned requirement: {error}") from error
        if [one.operator for one in requirement.specifier] != ["=="] or not hashes:
            raise PackageError(f"not pinned to one version and its hashes: {requirement}")
        found.append(Pinned(requirement, hashes))
    return found


def pinned(platform: Platform, python: str) -> list[Pinned]:
    """What the package of this platform installs for one Python version.

    Raises:
        PackageError: the lock is missing or not one.
    """
    try:
        text = FILE.read_text(encoding="utf-8")
    except OSError as error:
        raise PackageError(f"{error}; make lock writes it") from error
    environment = platform.environment(python)
    return [
        one
        for one in read(text)
        if one.name not in platform.lacks()
        and (one.requirement.marker is None or one.requirement.marker.evaluate(environment))
    ]


def requirements(extras: tuple[str, ...]) -> list[Requirement]:
    """What ``pyproject.toml`` asks for directly with these extras, its own extras resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, todo = [Requirement(one) for one in project["dependencies"]], list(extras)
    while todo:
        for one in map(Requirement, project["optional-dependencies"][todo.pop()]):
            if one.name == project["name"]:
                todo.extend(one.extras)
            else:
                found.append(one)
    return found


def write() -> None:
    """Resolve anew and write the lock.

    Raises:
        PackageError: uv cannot resolve it, or is not there.
    """
    extras = sorted({extra for platform in PLATFORMS.values() for extra in platform.extras})
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--no-header"),
        *("--python-version", PYTHONS[0], "--generate-hashes", "--emit-build-options"),
        *("--constraint", "constraints.txt", *(f"--extra={extra}" for extra in extras)),
        *("--output-file", str(FILE), "pyproject.toml"),
    ]
    FILE.unlink(missing_ok=True)  # else uv keeps the versions that stand in it
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"uv could not write the lock:\n{done.stderr}")
    FILE.write_text(
        "# What the vehicle's package installs. Written by: make lock\n"
        + FILE.read_text(encoding="utf-8"),
        encoding="utf-8",
    )
