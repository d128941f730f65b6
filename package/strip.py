"""Compiled libraries without what only a debugger reads: a third less for a vehicle to fetch.

What the processor and the dynamic linker use stays as the wheel had it. The bill of materials
names each wheel by its hash, so a debugger can be given the symbols of the very same build.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from package.errors import PackageError

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM: Final = "eu-strip"
"""Of elfutils: unlike that of binutils it knows every architecture."""
_MAGIC: Final = b"\x7fELF"


def strip(folder: Path) -> None:
    """Take debugging sections and symbol tables out of every ELF file below ``folder``.

    Raises:
        PackageError: the program is not there, or cannot read one of them.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise PackageError(f"{_PROGRAM} is not here: sudo apt-get install elfutils")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and _is_elf(file)]
    for file in files:
        done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PackageError(f"{_PROGRAM}: {file.relative_to(folder)}: {done.stderr.strip()}")


def _is_elf(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC
