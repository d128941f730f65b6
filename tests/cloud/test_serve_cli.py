"""The command line: help, errors, certificates, completion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.errors import ConfigError
from cloud.serve.files import DataLock
from cloud.stores.sqlite import SqliteStores
from tests.fakes.one_machine import ROOT, milepost_cloud

COMMANDS = [
    (),
    ("serve",),
    ("certs",),
    ("certs", "issue"),
    ("certs", "list"),
    ("certs", "revoke"),
    ("report",),
    ("vehicles",),
    ("history",),
    ("dead-letters",),
    ("completion",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command):
    done = milepost_cloud(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert command == ("certs",) or "Examples:" in done.stdout


def test_help_loads_nothing_slow():
    script = (
        "import sys; from cloud.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'nicegui', 'pyarrow', 'boto3', 'cryptography', 'amqtt', 'pydantic'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell):
    done = milepost_cloud("completion", shell)
    assert done.returncode == 0
    assert "_MILEPOST_CLOUD_COMPLETE" in done.stdout


@pytest.mark.parametrize("command", ["report", "vehicles", "dead-letters", "certs list"])
def test_a_directory_without_data_is_an_error_with_a_hint(command, tmp_path):
    done = milepost_cloud(*command.split(), "--data", tmp_path / "nothing")
    assert done.returncode == 2
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--mqtt-port", "99999"),
        ("serve", "--fleet", "no-such-file.toml"),
        ("certs", "issue", "van-1"),
        ("history",),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    done = milepost_cloud(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_certificates_are_issued_listed_and_revoked(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    done = milepost_cloud("certs", "issue", "van-1", "--data", data, "--out", out, "--days", 30)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]

    def listed():
        return json.loads(milepost_cloud("certs", "list", "--data", data, "--json").stdout)

    assert [(one["vehicle_id"], one["state"]) for one in listed()] == [("van-1", "valid")]
    revoked = milepost_cloud("certs", "revoke", "van-1", "--data", data)
    assert listed()[0]["serial"] in revoked.stdout
    assert [one["state"] for one in listed()] == ["revoked"]
    assert "revoked" in milepost_cloud("certs", "list", "--data", data).stdout


def test_a_key_that_is_there_is_replaced_only_by_force(tmp_path):
    words = ("certs", "issue", "van-1", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert milepost_cloud(*words).returncode == 0
    key = (tmp_path / "out" / "key.pem").read_bytes()
    done = milepost_cloud(*words)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "out" / "key.pem").read_bytes() == key
    assert milepost_cloud(*words, "--force").returncode == 0
    assert (tmp_path / "out" / "key.pem").read_bytes() != key


def test_an_impossible_vehicle_id_is_refused_with_the_reason(tmp_path):
    done = milepost_cloud("certs", "issue", "van/1", "--data", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "'van/1'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = milepost_cloud(
        "certs", "issue", "van-1", "--data", tmp_path / "data", "--out", tmp_path / "file" / "x"
    )
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr
    listed = milepost_cloud("certs", "list", "--data", tmp_path / "data", "--json")
    assert json.loads(listed.stdout) == []


def test_an_address_that_is_not_of_this_machine_is_told_from_a_port_in_use(tmp_path):
    done = milepost_cloud("serve", "--data", tmp_path, "--host", "192.0.2.1", "--mqtt-port", 0)
    assert done.returncode == 2
    assert "--host" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_without_a_traceback(tmp_path):
    (tmp_path / "serve.lock").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match="cannot write to the data directory"), DataLock(tmp_path):
        pass


def test_the_history_of_an_unknown_vehicle_is_an_error_that_names_the_known(tmp_path):
    SqliteStores.open(tmp_path).close()
    done = milepost_cloud("history", "--data", tmp_path, "--vehicle", "van-9")
    assert done.returncode == 2
    assert "van-9" in done.stderr
    assert "none yet" in done.stderr
