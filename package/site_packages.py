"""``site-packages`` for several Python versions in one folder, from pinned wheels.

pip installs once for each Python version, with ``--require-hashes`` and the platform's tags,
so this machine need not be of that architecture. The results are laid on top of each other:
compiled modules carry their Python version in their names, everything else is the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from package import lock
from package.errors import PackageError
from package.platforms import PYTHONS

if TYPE_CHECKING:
    from pathlib import Path

    from package.platforms import Platform

OWN_PARTS: Final = ("agent", "contract")
"""Of the distribution; cloud and simulator have no place on a vehicle."""

_FOREIGN_PARTS: Final = ("cloud", "simulator")
_ABOUT_THE_INSTALLATION: Final = ("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json")
"""dpkg keeps these accounts for the board (``dpkg --verify milepost-agent``)."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A wheel, or a source, that went in."""

    name: str
    version: str
    file: str
    sha256: str


def install(folder: Path, platform: Platform, work: Path) -> list[Archive]:
    """Fill ``folder`` with the libraries; give what went in, by name.

    Raises:
        PackageError: a wheel cannot be had or a hash is another one.
    """
    folder.mkdir()
    archives: dict[str, Archive] = {}
    for python in PYTHONS:
        target = work / f"python{python}"
        archives |= {one.file: one for one in _install(target, platform, python, work)}
        _lay_upon(target, folder)
    return sorted(archives.values(), key=lambda one: (one.name, one.file))


def _install(target: Path, platform: Platform, python: str, work: Path) -> list[Archive]:
    wanted, report = work / f"requirements-{python}.txt", work / f"report-{python}.json"
    wanted.write_text("".join(f"{one.line}\n" for one in lock.pinned(platform, python)))
    tags = [word for tag in platform.wheels for word in ("--platform", tag)]
    sources = [word for name in lock.SOURCE_ONLY for word in ("--no-binary", name)]
    _pip(
        *("install", "--target", target, "--report", report, "--no-compile"),
        *("--require-hashes", "--no-deps", "--requirement", wanted),
        *("--implementation", "cp", "--python-version", python, *tags),
        *("--only-binary", ":all:", *sources, "--no-build-isolation"),
    )
    return [_archive(one) for one in json.loads(report.read_text())["install"]]


def _archive(entry: dict[str, Any]) -> Archive:
    told, origin = entry["metadata"], entry["download_info"]
    return Archive(
        canonicalize_name(told["name"]),
        told["version"],
        origin["url"].rsplit("/", 1)[-1],
        origin["archive_info"]["hashes"]["sha256"],
    )


def _lay_upon(source: Path, folder: Path) -> None:
    shutil.rmtree(source / "bin", ignore_errors=True)
    for file in sorted(source.rglob("*")):
        place = folder / file.relative_to(source)
        if file.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif file.parent.suffix == ".dist-info" and file.name in _ABOUT_THE_INSTALLATION:
            continue
        elif not place.exists():
            file.rename(place)
        elif file.name.endswith(".abi3.so") or file.parent.name == "sboms":
            continue  # the first is of the oldest Python, and every later one takes it
        elif file.read_bytes() != place.read_bytes():
            raise PackageError(
                f"{file.relative_to(source)} differs between Python versions and does not name "
                "its own: their packages cannot lie in one folder"
            )


def add_milepost(folder: Path, platform: Platform, version: str, work: Path) -> None:
    """The agent of this source tree, as its wheel has it, called ``version``.

    Raises:
        PackageError: it asks for a library that is not in ``folder``.
    """
    source = work / "source"
    source.mkdir()
    for name in (*OWN_PARTS, *_FOREIGN_PARTS):
        shutil.copytree(
            lock.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("README.md", "LICENSE"):
        shutil.copy(lock.ROOT / name, source)
    project = (lock.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', project, count=1)
    (source / "pyproject.toml").write_text(project)
    target = work / "milepost"
    _pip(
        *("install", "--target", target, "--no-compile", "--no-deps", "--no-index"),
        *("--no-build-isolation", source),
    )
    for name in _FOREIGN_PARTS:
        shutil.rmtree(target / name)
    (about,) = target.glob("milepost-*.dist-info")
    (about / "entry_points.txt").write_text(
        "[console_scripts]\nmilepost-agent = agent.cli:main\n", encoding="utf-8"
    )
    _lay_upon(target, folder)
    _require_complete(folder, platform)


def installed(folder: Path) -> list[Distribution]:
    """Every distribution in there, by name."""
    found = distributions(path=[str(folder)])
    return sorted(found, key=lambda one: canonicalize_name(one.metadata["Name"]))


def _require_complete(folder: Path, platform: Platform) -> None:
    """What is there asks for nothing that is not."""
    present = {canonicalize_name(one.metadata["Name"]): one.version for one in installed(folder)}
    missing = []
    for distribution in installed(folder):
        own = distribution.metadata["Name"] == "milepost"
        for text in distribution.requires or ():
            one = Requirement(text)
            name = canonicalize_name(one.name)
            extras = platform.extras if own else ("",)
            asked = one.marker is None or any(
                one.marker.evaluate(platform.environment(python) | {"extra": extra})
                for python in PYTHONS
                for extra in extras
            )
            if not asked or name in platform.lacks() or name == "milepost":
                continue
            if name not in present or present[name] not in one.specifier:
                missing.append(f"{distribution.metadata['Name']} wants {one}")
    if missing:
        raise PackageError(f"the lock is not complete (make lock): {'; '.join(missing)}")


def _pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-8:])
        raise PackageError(f"pip {words[0]} failed:\n{tail}")
