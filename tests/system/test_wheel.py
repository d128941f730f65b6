"""The built wheel works with the source out of the way."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--wheel-dir", folder, ROOT),
        ],
        check=True,
        timeout=240,
    )
    (path,) = folder.glob("milepost-*.whl")
    return path


def test_it_holds_the_four_packages_with_their_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"contract", "agent", "cloud", "simulator"}
    assert "cloud/template.yaml" in names
    assert "simulator/traces/default.nmea" in names
    assert "agent/board/data/hats.toml" in names
    assert "agent/board/data/templates/can.env" in names
    assert not [name for name in names if name.endswith((".pem", ".key", ".db", ".pyc"))]


def test_its_commands_run_from_it(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for package in ("agent", "cloud", "simulator"):
        done = subprocess.run(
            [sys.executable, "-m", package, "--help"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "Usage" in done.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import agent; print(agent.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert where.stdout.startswith(str(site))


@pytest.mark.parametrize(
    ("package", "words", "library"),
    [("agent", ["check-config"], "pydantic"), ("simulator", ["demo"], "rich")],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    package, words, library, tmp_path
):
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from {package}.cli import main\nsys.argv[1:] = {words!r}\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"pip install 'milepost[{package}]'" in done.stderr
    assert "Traceback" not in done.stderr
