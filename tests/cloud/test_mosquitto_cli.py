"""``milepost-cloud mosquitto``: what it writes. That it keeps vehicles apart: tests/isolation."""

import os

import pytest
from click.testing import CliRunner
from cryptography import x509

from cloud.cli import cli
from cloud.errors import ConfigError
from cloud.pki.authority import CLAIM_NAME, PROVISIONED_NAME
from contract import MessageKind, Topics


def run(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    run("certs", "issue", "van-1", "--data", folder, "--out", tmp_path / "van-1")
    return folder


def revoked_in(folder):
    revoked = x509.load_pem_x509_crl((folder / "revoked.pem").read_bytes())
    return {one.serial_number for one in revoked}


def test_it_writes_five_files_and_says_what_to_do_with_them(data, tmp_path):
    out = tmp_path / "out"
    told = run("mosquitto", "--data", data, "--out", out, "--name", "broker.example.com")
    modes = {path.name: path.stat().st_mode & 0o777 for path in out.iterdir()}
    assert modes == {
        "milepost.conf": 0o644,
        "milepost.acl": 0o600,
        "ca.pem": 0o644,
        "server.pem": 0o600,
        "revoked.pem": 0o644,
    }
    assert f"chown mosquitto: {out}/server.pem" in told
    assert "systemctl restart mosquitto" in told
    server = x509.load_pem_x509_certificate((out / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "broker.example.com" in names.get_values_for_type(x509.DNSName)


def test_each_vehicle_writes_its_own_topics_and_who_has_no_name_of_its_own_nothing(data, tmp_path):
    run("mosquitto", "--data", data, "--out", tmp_path / "out", "--reader", "backend")
    lines = (tmp_path / "out" / "milepost.acl").read_text().splitlines()
    own = {Topics("X").topic(kind).replace("X", "%u") for kind in MessageKind}
    patterns = {line for line in lines if line.startswith("pattern")}
    assert patterns == {f"pattern write {topic}" for topic in own}
    for name in (CLAIM_NAME, PROVISIONED_NAME):
        assert lines[lines.index(f"user {name}") + 1] == "topic deny #"
    assert "topic read telemetry/+" in lines[lines.index("user backend") :]


def test_whoever_may_not_connect_is_on_the_list_after_the_next_run(data, tmp_path):
    out = tmp_path / "out"
    run("mosquitto", "--data", data, "--out", out)
    assert revoked_in(out) == set()
    run("fleet", "claim", "create", "workshop", "--data", data, "--out", tmp_path / "claim")
    run("certs", "revoke", "van-1", "--data", data)
    assert "2 certificates are on the list" in run("mosquitto", "--data", data, "--out", out)
    files = [tmp_path / name / "certificate.pem" for name in ("van-1", "claim")]
    certificates = [x509.load_pem_x509_certificate(one.read_bytes()) for one in files]
    assert revoked_in(out) == {one.serial_number for one in certificates}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_was_given_to_mosquitto_stays_mosquittos(data, tmp_path):
    out = tmp_path / "out"
    run("mosquitto", "--data", data, "--out", out)
    os.chown(out / "server.pem", 65534, 65534)
    run("mosquitto", "--data", data, "--out", out)
    assert (out / "server.pem").stat().st_uid == 65534
    assert (out / "server.pem").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_is_refused_and_nothing_is_written(data, tmp_path):
    with pytest.raises(ConfigError, match="no certificate authority"):
        run("mosquitto", "--data", tmp_path / "none", "--out", tmp_path / "out")
    with pytest.raises(ConfigError):
        run("mosquitto", "--data", data, "--out", tmp_path / "out", "--reader", "a b")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        run("mosquitto", "--data", data, "--out", tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()
