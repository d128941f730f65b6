"""The folder that Lambda runs: ``python -m cloud.deploy.bundle`` makes ``build/lambda``.

It holds ``cloud/`` and ``contract/`` and the wheels of ``cloud/requirements-lambda.txt``
for Python 3.12 on arm64, without what no handler needs: tests, headers, and of pyarrow
Flight, which alone is 30 MB. Nothing of the vehicle or of the one-machine mode goes in.
``sam deploy`` packs the folder as it is; boto3 comes with Lambda's runtime.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 250 * 1024 * 1024
"""Lambda's limit for a function and its layers, unpacked."""

PYTHON_VERSION: Final = "3.12"
PLATFORMS: Final = tuple(
    f"manylinux{tag}_aarch64" for tag in ("_2_34", "_2_31", "_2_28", "_2_17", "2014")
)
"""What runs on Amazon Linux 2023, which has glibc 2.34."""

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ROOT / "cloud" / "requirements-lambda.txt"
OURS: Final = ("cloud", "contract")
NOT_OURS: Final = (
    *("serve", "web", "deploy", "iotsql", "cli", "pki", "__main__.py"),
    *("cloudformation.py", "template.py", "template.yaml", "requirements-lambda.txt"),
)
"""Parts of ``cloud/`` that belong to one machine and need what is not bundled."""

UNNEEDED: Final = (
    "**/__pycache__",
    "bin",
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/_core/lib/*.a",
    "numpy/f2py",
    "pyarrow/**/tests",
    "pyarrow/**/*.pyx",
    "pyarrow/**/*.pxd",
    "pyarrow/**/*.pxi",
    "pyarrow/_flight*",
    "pyarrow/include",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/src",
    "shapely/tests",
)


def install(target: Path, requirements: Path = REQUIREMENTS) -> None:
    """Install the wheels into ``target``.

    Raises:
        subprocess.CalledProcessError: pip says why on standard error.
    """
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(target), "--only-binary=:all:", "--implementation=cp"),
            *(f"--python-version={PYTHON_VERSION}", *platforms),
            *("--requirement", str(requirements)),
        ],
        check=True,
    )


def copy_ours(target: Path, root: Path = ROOT) -> None:
    """Copy ``cloud/`` and ``contract/``, without what belongs to one machine."""
    for package in OURS:
        source = root / package

        def ignored(folder: str, names: list[str], top: Path = source) -> list[str]:
            at_top = Path(folder) == top
            return [
                name for name in names if name == "__pycache__" or (at_top and name in NOT_OURS)
            ]

        shutil.copytree(source, target / package, ignore=ignored)


def strip(target: Path) -> int:
    """Delete what no handler needs; how many bytes that were."""
    before = size_of(target)
    for pattern in UNNEEDED:
        for path in sorted(target.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
    return before - size_of(target)


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def largest(target: Path, count: int = 8) -> Iterator[tuple[str, int]]:
    """The largest entries of the folder, with their bytes."""
    sizes = {
        path.name: size_of(path) if path.is_dir() else path.stat().st_size
        for path in target.iterdir()
    }
    yield from sorted(sizes.items(), key=lambda entry: -entry[1])[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the folder; 1 when it is over Lambda's limit or pip fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", type=Path, default=ROOT / "build" / "lambda")
    options = parser.parse_args(arguments)
    target: Path = options.target
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    try:
        install(target)
    except subprocess.CalledProcessError:
        _say(f"pip could not install {REQUIREMENTS.name}; see its message above")
        return 1
    stripped = strip(target)
    copy_ours(target)
    total = size_of(target)
    _say(f"{target}: {_mb(total)} of {_mb(LIMIT_BYTES)}, {_mb(stripped)} stripped")
    for name, size in largest(target):
        _say(f"  {_mb(size):>9}  {name}")
    if total > LIMIT_BYTES:
        _say("over Lambda's limit: give pyarrow by a layer, and take it from the requirements")
        return 1
    return 0


def _mb(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
