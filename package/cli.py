"""``python -m package``: lock the wheels, build the vehicle's Debian package.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import click

from package import deb, lock
from package.errors import PackageError
from package.platforms import PLATFORMS, native


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  python -m package deb
  python -m package deb --arch arm64
  python -m package deb --version 0.1.1 --out /tmp
  python -m package lock
""",
)
def package() -> None:
    """The vehicle's Debian package. See docs/packaging.md."""


@package.command("deb")
@click.option(
    "--arch",
    type=click.Choice(sorted(PLATFORMS)),
    help="Debian's name of the architecture. Default: this machine's.",
)
@click.option("--version", help="Default: that of pyproject.toml.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=lock.ROOT / "dist", help="Default: dist."
)
def deb_command(arch: str | None, version: str | None, out: Path) -> None:
    """Build the package from wheels pinned by hash, and its bill of materials."""
    try:
        platform = PLATFORMS[arch] if arch else native()
        version = version or project_version()
        click.echo(f"building milepost-agent {version} for {platform.debian}", err=True)
        (built,) = deb.build(platform, [version], out, epoch_s=deb.source_epoch_s())
    except PackageError as error:
        _fail(error)
    for name, reason in platform.lacks().items():
        click.echo(f"without {name}: {reason}", err=True)
    click.echo(
        f"{built.package_bytes / 1e6:.1f} MB, {built.installed_kib * 1024 / 1e6:.1f} MB installed; "
        f"materials: {built.sbom}",
        err=True,
    )
    click.echo(str(built.file))


@package.command("lock")
def lock_command() -> None:
    """Resolve the dependencies anew, with hashes, for every architecture and Python."""
    try:
        lock.write()
    except PackageError as error:
        _fail(error)
    pinned = lock.read(lock.FILE.read_text(encoding="utf-8"))
    click.echo(f"{lock.FILE}: {len(pinned)} distributions")


def project_version() -> str:
    """What ``pyproject.toml`` says."""
    project = tomllib.loads((lock.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version: str = project["project"]["version"]
    return version


def _fail(error: PackageError) -> None:
    click.echo(f"milepost package: {error}", err=True)
    sys.exit(1)
