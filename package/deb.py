"""``milepost-agent_VERSION_ARCH.deb``: what lies where on the board, put into one archive.

The same source gives the same bytes: every time in it is that of the last commit
(``SOURCE_DATE_EPOCH``), every owner is root, every order is fixed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from package import manual, sbom, site_packages
from package.errors import PackageError
from package.lock import ROOT
from package.platforms import PYTHONS
from package.strip import strip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from package.platforms import Platform

NAME: Final = "milepost-agent"
HOME: Final = "opt/milepost"
_TEMPLATES: Final = ROOT / "package/debian"
_UNITS: Final = ROOT / "systemd"
_UNIT_TYPES: Final = (".service", ".socket", ".timer", ".path", ".target", ".mount", ".slice")
_SCRIPTS: Final = ("postinst", "prerm", "postrm")
DOCS: Final = ("configuration.md", "doctor.md", "packaging.md", "install.md", "operations.md")
"""What an installer may want on a board with no network."""


@dataclass(frozen=True, slots=True)
class Built:
    """A package that was made."""

    file: Path
    sbom: Path
    package_bytes: int
    installed_kib: int


def build(platform: Platform, versions: Sequence[str], out: Path, *, epoch_s: int) -> list[Built]:
    """Make the package and its bill of materials in ``out``, of each version.

    Raises:
        PackageError: something that goes in cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="milepost-deb-") as temporary:
        work = Path(temporary)
        libraries = work / "libraries"
        archives = site_packages.install(libraries, platform, work)
        strip(libraries)
        out.mkdir(parents=True, exist_ok=True)
        return [
            _build(
                platform,
                version,
                out=out,
                epoch_s=epoch_s,
                libraries=libraries,
                archives=archives,
                work=work / version,
            )
            for version in versions
        ]


def _build(
    platform: Platform,
    version: str,
    *,
    out: Path,
    epoch_s: int,
    libraries: Path,
    archives: list[site_packages.Archive],
    work: Path,
) -> Built:
    tree = work / "tree"
    site = tree / HOME / "lib/python3/site-packages"
    shutil.copytree(libraries, site)
    site_packages.add_milepost(site, platform, version, work)
    for python in PYTHONS:
        (tree / HOME / f"lib/python{python}").symlink_to("python3")
    document = sbom.make(site_packages.installed(site), archives, platform, epoch_s)
    units = _lay_out(tree)
    _document(tree, document, version, epoch_s)
    installed_kib = _control(tree, platform, version, units)
    _settle(tree, epoch_s)
    stem = f"{NAME}_{version}_{platform.debian}"
    file, materials = out / f"{stem}.deb", out / f"{stem}.sbom.cdx.json"
    _pack(tree, file, epoch_s)
    materials.write_text(document, encoding="utf-8")
    return Built(file, materials, file.stat().st_size, installed_kib)


def source_epoch_s() -> int:
    """``SOURCE_DATE_EPOCH``, else the moment of the last commit.

    Raises:
        PackageError: neither is known.
    """
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told is None:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%ct"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        told = done.stdout.strip()
    if not told.isdigit():
        raise PackageError("set SOURCE_DATE_EPOCH: no commit says of when this source is")
    return int(told)


def _lay_out(tree: Path) -> list[str]:
    """Everything but libraries and documents; gives the units' names."""
    _put(tree / HOME / "bin" / NAME, (_TEMPLATES / NAME).read_text(), executable=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin" / NAME).symlink_to(f"/{HOME}/bin/{NAME}")
    units = sorted(file for file in _UNITS.iterdir() if file.suffix in _UNIT_TYPES)
    for file in units:
        _put(tree / "usr/lib/systemd/system" / file.name, file.read_text())
    for kind in ("sysusers", "tmpfiles"):
        file = _UNITS / f"milepost.{kind}"
        if file.exists():
            _put(tree / f"usr/lib/{kind}.d/milepost.conf", file.read_text())
    (tree / "etc/milepost").mkdir(parents=True)
    completion = subprocess.run(
        [sys.executable, "-m", "agent", "completion", "bash"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    _put(tree / "usr/share/bash-completion/completions" / NAME, completion.stdout)
    return [file.name for file in units]


def _document(tree: Path, document: str, version: str, epoch_s: int) -> None:
    from agent.cli import cli  # noqa: PLC0415  the command line that is documented

    folder = tree / "usr/share/doc" / NAME
    _put(folder / "sbom.cdx.json", document)
    license_text = "".join(
        f" {line}\n" if line.strip() else " .\n"
        for line in (ROOT / "LICENSE").read_text().splitlines()
    ).rstrip("\n")
    copyright_text = (_TEMPLATES / "copyright").read_text()
    _put(folder / "copyright", copyright_text.replace("@LICENSE@", license_text))
    changelog = (_TEMPLATES / "changelog").read_text().replace("@VERSION@", version)
    changelog = changelog.replace("@DATE@", format_datetime(datetime.fromtimestamp(epoch_s, UTC)))
    _put_compressed(folder / "changelog.gz", changelog.encode())
    _put_compressed(folder / "NEWS.md.gz", (ROOT / "CHANGELOG.md").read_bytes())
    for name in DOCS:
        if (ROOT / "docs" / name).exists():
            _put(folder / name, (ROOT / "docs" / name).read_text())
    _put(
        tree / "usr/share/lintian/overrides" / NAME, (_TEMPLATES / "lintian-overrides").read_text()
    )
    pages = tree / "usr/share/man/man1"
    pages.mkdir(parents=True)
    manual.write(cli, NAME, pages, version, epoch_s)
    for page in sorted(pages.iterdir()):
        _put_compressed(page.with_suffix(".1.gz"), page.read_bytes())
        page.unlink()


def _control(tree: Path, platform: Platform, version: str, units: list[str]) -> int:
    """The control files; gives the installed size, KiB."""
    files = [file for file in sorted(tree.rglob("*")) if file.is_file() and not file.is_symlink()]
    installed_kib = sum(-(-file.stat().st_size // 1024) for file in files)
    installed_kib += sum(file.is_dir() or file.is_symlink() for file in tree.rglob("*"))
    enabled = [unit for unit in units if _is_enabled(unit)]
    words = {
        "VERSION": version,
        "ARCHITECTURE": platform.debian,
        "INSTALLED_KIB": str(installed_kib),
        "LIBC": platform.libc,
        "DEPENDS": "".join(f", {name}" for name in platform.depends),
        "ENABLED": " ".join(enabled),
        "STARTED": " ".join(unit for unit in enabled if not unit.endswith(".service")),
        "STOPPED": " ".join(unit for unit in units if "@." not in unit),
    }
    control = tree / "DEBIAN"
    for name in ("control", "triggers", *_SCRIPTS):
        text = re.sub(
            r"@([A-Z_]+)@", lambda found: words[found[1]], (_TEMPLATES / name).read_text()
        )
        _put(control / name, text, executable=name in _SCRIPTS)
    sums = (
        f"{hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{file.relative_to(tree)}\n"
        for file in files
    )
    _put(control / "md5sums", "".join(sums))
    return installed_kib


def _is_enabled(unit: str) -> bool:
    """Whether it says what wants it, and is no template."""
    return "@." not in unit and "\n[Install]\n" in (_UNITS / unit).read_text()


def _put(place: Path, text: str, *, executable: bool = False) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    place.chmod(0o755 if executable else 0o644)


def _put_compressed(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))


def _settle(tree: Path, epoch_s: int) -> None:
    """Modes and times that do not depend on who builds it and when."""
    executable = {tree / HOME / "bin" / NAME, *(tree / "DEBIAN" / name for name in _SCRIPTS)}
    for file in (tree, *tree.rglob("*")):
        if not file.is_symlink():
            file.chmod(0o755 if file.is_dir() or file in executable else 0o644)
        os.utime(file, (epoch_s, epoch_s), follow_symlinks=False)


def _pack(tree: Path, file: Path, epoch_s: int) -> None:
    program = shutil.which("dpkg-deb")
    if program is None:
        raise PackageError("dpkg-deb is not here; it comes with dpkg")
    done = subprocess.run(
        [program, "--root-owner-group", "-Zxz", "-z6", "--build", str(tree), str(file)],
        capture_output=True,
        text=True,
        check=False,
        # one thread: xz cuts its blocks by their number
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch_s), "DPKG_DEB_THREADS_MAX": "1"},
    )
    if done.returncode:
        raise PackageError(f"dpkg-deb: {done.stderr}")
