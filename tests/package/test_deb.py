"""The Debian package of this machine's architecture, built for real."""

import io
import json
import subprocess
import sys
import tarfile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from package import deb, lock, platforms
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.needs("dpkg-deb", "eu-strip"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("deb"),
]
EPOCH_S = 1_760_000_000
HOME = "./opt/milepost/"
LIBRARIES = f"{HOME}lib/python3/site-packages/"
SECRETS = (b"PRIVATE KEY-----", b"AWS_SECRET_ACCESS_KEY=", b"BEGIN CERTIFICATE-----")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("deb")
    (made,) = deb.build(platforms.native(), ["0.1.0"], out, epoch_s=EPOCH_S)
    return made


@pytest.fixture(scope="module")
def members(built):
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", built.file], capture_output=True, check=True, timeout=120
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return {
            member.name: (member, archive.extractfile(member).read() if member.isreg() else b"")
            for member in archive
        }


def control(built, name):
    done = subprocess.run(
        ["dpkg-deb", "--info", built.file, name],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_it_holds_the_agent_and_the_contract_and_neither_cloud_nor_simulator(members):
    tops = {name.removeprefix(LIBRARIES).split("/")[0] for name in members if LIBRARIES in name}
    assert {"agent", "contract"} <= tops
    assert not tops & {"cloud", "simulator", "boto3", "pyarrow", "nicegui", "bin"}
    assert f"{LIBRARIES}agent/vehicles/e-bike/agent.toml" in members


def test_it_holds_no_secret_and_nothing_compiled_on_the_way(members):
    for name, (_, data) in members.items():
        assert not name.endswith((".pyc", ".key", ".db", ".pem", ".toml.swp")), name
        if name.startswith((LIBRARIES + "agent", LIBRARIES + "contract", "./etc", "./usr")):
            assert not any(mark in data for mark in SECRETS), name
        assert str(ROOT).encode() not in data, name


def test_everything_is_root_s_and_nobody_else_may_write(members):
    for name, (member, _) in members.items():
        assert (member.uid, member.gid) == (0, 0), name
        if not member.issym():
            runs = member.isdir() or name == f"{HOME}bin/milepost-agent"
            assert member.mode == (0o755 if runs else 0o644), name


def test_compiled_modules_are_there_for_every_python(members):
    for python in platforms.PYTHONS:
        tag = f"cpython-{python.replace('.', '')}-"
        assert [name for name in members if "pydantic_core/_pydantic_core." + tag in name]


def test_its_own_files_are_where_a_board_looks_for_them(members):
    assert members["./usr/bin/milepost-agent"][0].linkname == "/opt/milepost/bin/milepost-agent"
    for unit in (ROOT / "systemd").glob("*.service"):
        assert members[f"./usr/lib/systemd/system/{unit.name}"][1] == unit.read_bytes()
    sysusers = (ROOT / "systemd/milepost.sysusers").read_bytes()
    assert members["./usr/lib/sysusers.d/milepost.conf"][1] == sysusers
    assert "./usr/share/man/man1/milepost-agent-run.1.gz" in members
    completion = members["./usr/share/bash-completion/completions/milepost-agent"][1]
    assert b"_milepost_agent_completion" in completion


def test_the_maintainer_scripts_are_shell_and_nothing_is_left_to_fill_in(built):
    for name in ("control", "triggers", "postinst", "prerm", "postrm"):
        text = control(built, name)
        assert "@" not in text.replace("milepost@localhost", "").replace("$@", ""), name
        if text.startswith("#!/bin/sh"):
            subprocess.run(["sh", "-n"], input=text, text=True, check=True, timeout=60)
    assert "milepost-agent.service" in control(built, "postinst")


@pytest.mark.needs("lintian")
def test_lintian_has_nothing_to_say_that_is_not_explained(built):
    done = subprocess.run(
        ["lintian", "--allow-root", "--no-cfg", built.file],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == ""


def test_the_agent_runs_from_what_was_unpacked(built, tmp_path):
    subprocess.run(["dpkg-deb", "--extract", built.file, tmp_path], check=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "opt/milepost/bin/milepost-agent", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "No module named 'agent'" in done.stderr, "the sources of this tree are out of the way"
    libraries = tmp_path / LIBRARIES
    start = (
        f"import sys; sys.path.insert(0, {str(libraries)!r}); from agent.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start, "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "0.1.0" in done.stdout


def test_the_same_source_gives_the_same_bytes(built, tmp_path):
    (again,) = deb.build(platforms.native(), ["0.1.0"], tmp_path, epoch_s=EPOCH_S)
    assert again.file.read_bytes() == built.file.read_bytes()
    assert again.sbom.read_bytes() == built.sbom.read_bytes()


def test_the_bill_of_materials_is_valid_and_names_every_library(built, members):
    text = built.sbom.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert members["./usr/share/doc/milepost-agent/sbom.cdx.json"][1].decode() == text
    document = json.loads(text)
    told = {one["name"]: one for one in document["components"]}
    for one in lock.pinned(platforms.native(), "3.11"):
        component = told[one.name]
        assert component["version"] == one.version
        hashes = {f"sha256:{found['content']}" for found in component["hashes"]}
        assert hashes, one.name
        assert hashes <= set(one.hashes), one.name
        assert component["licenses"], one.name
    assert document["metadata"]["component"]["name"] == "milepost-agent"
