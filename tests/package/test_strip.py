"""Debugging sections go, and what cannot be stripped is named."""

import shutil
import subprocess
import sys

import pytest

from package.errors import PackageError
from package.strip import strip

SOURCE = "int answer(void) { return 42; }\n"
LOAD = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).answer())"


def sections(library):
    done = subprocess.run(
        ["readelf", "--section-headers", "--wide", library],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.needs("gcc", "readelf", "eu-strip")
def test_a_library_loses_its_symbols_and_still_works(tmp_path):
    source, library = tmp_path / "answer.c", tmp_path / "answer.libs/libanswer-1a2b.so.1"
    library.parent.mkdir()
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-g", "-shared", "-o", library, source], check=True)
    assert ".debug_info" in sections(library)
    strip(tmp_path)
    assert ".debug_info" not in sections(library)
    assert ".symtab" not in sections(library)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, library], capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"
    assert source.read_text() == SOURCE


@pytest.mark.needs("eu-strip")
def test_a_library_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "half.so").write_bytes(b"\x7fELF" + bytes(20))
    with pytest.raises(PackageError, match=r"half\.so"):
        strip(tmp_path)


def test_a_machine_without_the_program_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PackageError, match="apt-get install elfutils"):
        strip(tmp_path)
