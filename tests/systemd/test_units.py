"""The units as systemd itself reads them; it need not run for that."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

import click
import pytest

from agent.board.render import render
from agent.board.wanted import Wanted
from agent.cli import cli
from agent.cli_common import EXIT_USAGE
from agent.provision.failures import Cause, Retry
from tests.conftest import SEARCH_PATH

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNITS = sorted(
    path for path in FOLDER.rglob("*") if path.suffix in {".service", ".socket", ".timer", ".path"}
)
SERVICES = [path for path in UNITS if path.suffix == ".service"]

MOST_EXPOSURE = {
    "milepost-agent.service": 1.5,
    "milepost-can@.service": 1.1,
    "milepost-clock.service": 0.5,
    "milepost-cloud.service": 1.2,
    "milepost-provision.service": 1.1,
    "milepost-rotate.service": 0.2,
    "milepost-update-resume.service": 3.0,
    "milepost-update.service": 3.0,
}
"""Every allowance behind these has its reason in docs/systemd.md."""

pytestmark = pytest.mark.needs("systemd-analyze")


def analyze(*words):
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"},
    )


@pytest.fixture
def installed(tmp_path):
    """The units side by side; what only the package brings has the name of another program."""
    for path in UNITS:
        brought = r"(?:/opt/milepost(?:-cloud)?|/var/lib/milepost-update)/\S+(?=[ \n])"
        text = re.sub(
            rf"^(ExecStart=){brought}",
            rf"\1{shutil.which('true')}",
            path.read_text(),
            flags=re.MULTILINE,
        )
        (tmp_path / path.name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("unit", [path.name for path in UNITS])
def test_systemd_has_nothing_to_say_about_a_unit(installed, unit):
    place = installed / unit
    if "@." in unit:
        place = place.rename(installed / unit.replace("@.", "@can0."))
    done = analyze("verify", str(place))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", [path.name for path in SERVICES])
def test_a_service_is_exposed_no_more_than_it_must_be(installed, unit):
    done = analyze("security", "--offline=true", str(installed / unit))
    (told,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(told) <= MOST_EXPOSURE[unit], done.stdout


def test_every_allowance_of_the_agent_has_its_reason_in_the_docs(installed):
    done = analyze("security", "--offline=true", str(installed / "milepost-agent.service"))
    left = re.findall(r"^✗ (\w+)=", done.stdout, re.MULTILINE)
    assert left
    page = (FOLDER.parent / "docs/systemd.md").read_text()
    assert [name for name in left if f"`{name}" not in page] == []


def test_what_the_units_run_is_a_command_that_there_is():
    lines = [line for path in SERVICES for line in path.read_text().splitlines()]
    found = [line.split() for line in lines if line.startswith("ExecStart=/opt/milepost/bin/")]
    assert found
    for _, *words in found:
        if words[0] == "-I":
            assert importlib.util.find_spec(words[2]) is not None, words
            continue
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None, words
        given = {word for word in words[1:] if word.startswith("--")}
        assert given <= {name for one in command.params for name in one.opts}, words


def test_the_codes_that_end_provisioning_are_those_that_only_a_person_can_mend():
    text = (FOLDER / "milepost-provision.service").read_text()
    (line,) = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    never = {cause.exit_code for cause in Cause if cause.retry is Retry.NEVER}
    assert {int(code) for code in line.split()} == {EXIT_USAGE} | never


@pytest.mark.parametrize("unit", ["milepost-agent.service", "milepost-provision.service"])
def test_the_native_client_loads_behind_the_filters(unit):
    confined = [sys.executable, "-m", "tests.fakes.unit_sandbox", FOLDER / unit]
    load = (
        "import awscrt.mqtt, awscrt.mqtt5, awscrt.io as io\n"
        "io.ClientBootstrap.get_or_create_static_default()"
    )
    done = subprocess.run(
        [*confined, sys.executable, "-c", load],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("ip")
@pytest.mark.parametrize("dbitrate", [None, 2_000_000])
def test_ip_understands_what_a_can_interface_is_set_to(dbitrate):
    """On the loopback, which is no CAN interface: ip reads all of it, and the kernel says no."""
    wanted = Wanted(board="pi4", hat="mcp2518fd", dbitrate=dbitrate, listen_only=True)
    (env,) = [target.content for target in render(wanted) if target.path.endswith("can0.env")]
    lines = [line for line in env.splitlines() if not line.startswith("#")]
    values = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    text = (FOLDER / "milepost-can@.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S*/ip (.* type can .*)$", text, re.MULTILINE)
    words = Template(command.replace("%i", "lo")).substitute(values).split()
    done = subprocess.run(
        ["ip", *words],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "LC_ALL": "C", "PATH": SEARCH_PATH},
    )
    assert done.stderr.startswith("RTNETLINK answers: Operation not "), done.stderr
