"""No secret in the repository, the logs, the diagnostic bundle or the Debian package.

The scanner (``.ci/scan_secrets.py``) runs in ``make check``; here it is shown that it finds what
is planted, and it looks at what only a run or a build makes.
"""

import base64
import importlib.util
import io
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.conftest import ROOT
from tests.fakes.one_machine import milepost_cloud, running_cloud, wait_until

SCRIPT = ROOT / ".ci" / "scan_secrets.py"
ENCODING, FORMAT = serialization.Encoding, serialization.PrivateFormat
PACKAGES = sorted((ROOT / "dist").glob("*.deb"))


def load_scanner():
    found = importlib.util.spec_from_file_location("scan_secrets", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


scanner = load_scanner()


def encoded(key, encoding, form):
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def planted():
    """One of each kind, made now, so that none stands in the repository."""
    curve, numbers = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    pem = encoded(curve, ENCODING.PEM, FORMAT.PKCS8)
    body = secrets.token_urlsafe(32)
    while not any(one.isdigit() for one in body):
        body = secrets.token_urlsafe(32)
    upper = base64.b32encode(secrets.token_bytes(10)).decode()
    return {
        "private key (PEM)": [
            pem,
            encoded(curve, ENCODING.PEM, FORMAT.TraditionalOpenSSL),
            encoded(numbers, ENCODING.PEM, FORMAT.PKCS8),
            pem.replace(b"\n", b"\\n"),
            repr(pem).encode(),
        ],
        "private key (base64)": [
            base64.b64encode(encoded(curve, ENCODING.DER, FORMAT.PKCS8)),
            base64.b64encode(encoded(curve, ENCODING.DER, FORMAT.TraditionalOpenSSL)),
            base64.b64encode(encoded(numbers, ENCODING.DER, FORMAT.PKCS8)),
        ],
        "private key (DER)": [
            encoded(curve, ENCODING.DER, FORMAT.PKCS8),
            encoded(numbers, ENCODING.DER, FORMAT.PKCS8),
        ],
        "AWS access key": [f"AKIA{upper}".encode(), f"id = 'ASIA{upper}'".encode()],
        "AWS secret key": [
            f"aws_secret_access_key = {secrets.token_hex(19)}{end}".encode() for end in ("+b", "b+")
        ],
        "ownership token": [
            f'{{"certificateOwnershipToken": "{body}"}}'.encode(),
            f"certificate_ownership_token={body}".encode(),
        ],
        "GitHub token": [b"ghp_" + secrets.token_hex(18).encode()],
        "password in a URL": [
            f"https://somebody:{secrets.token_urlsafe(16)}@example.com/".encode()
        ],
        "password or token": [f"password = '{body}'".encode(), f'"api_key": "{body}"'.encode()],
    }


CASES = [(kind, number) for kind, ones in planted().items() for number in range(len(ones))]


def tar_of(name, content, compression="gz"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def zip_of(name, content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def deb_of(name, content):
    """A Debian package, as far as its data goes (deb(5))."""
    members = (("debian-binary", b"2.0\n"), ("data.tar.xz", tar_of(name, content, "xz")))
    packed = b"!<arch>\n"
    for member, data in members:
        packed += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        packed += data + b"\n" * (len(data) % 2)
    return packed


def kinds_in(content):
    return {finding.kind for finding in scanner.scan_bytes("there", content)}


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_what_is_planted_in_a_text_is_found_as_what_it_is(kind, number):
    secret = planted()[kind][number]
    assert kind in kinds_in(b"first line\n  x = 1; " + secret + b"\nlast line\n")


@pytest.mark.parametrize("pack", [tar_of, zip_of, deb_of])
@pytest.mark.parametrize("kind", ["private key (PEM)", "private key (DER)", "AWS access key"])
def test_what_is_planted_in_an_archive_is_found_however_deep(pack, kind):
    (secret, *_) = planted()[kind]
    packed = pack("opt/milepost/notes", b"notes\n" + secret + b"\n")
    assert kind in kinds_in(packed)
    assert kind in kinds_in(tar_of("inner", zip_of("innermost", packed)))
    (finding, *_) = scanner.scan_bytes("package", packed)
    assert "opt/milepost/notes" in finding.place


@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN PRIVATE KEY----- and so on, -----END PRIVATE KEY-----",
        b"AKIAIOSFODNN7EXAMPLE",
        b'"certificateOwnershipToken": pending.certificate.ownership_token_of_it',
        b"mqtts://user:{password}@host, https://example.com:8883/a@b",
        b'password = "................"',
        b'CHALLENGE_PASSWORD: "challengePasswordOid"',
        b"sha256 = 5f0c6a2b9d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c",
        b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ\n-----END CERTIFICATE-----",
    ],
)
def test_what_only_speaks_of_secrets_is_none(text):
    assert kinds_in(text + b"\n") == set()


def test_a_line_that_says_why_it_is_none_is_passed_over_and_the_next_one_is_not():
    secret, _ = planted()["AWS secret key"]
    assert kinds_in(secret + b"  # not a secret: made up for a test\n") == set()
    assert kinds_in(b"# not a secret: the line before\n" + secret) == {"AWS secret key"}


def test_an_archive_that_cannot_be_looked_into_is_told():
    assert any("cannot be looked into" in kind for kind in kinds_in(b"\x1f\x8bbroken"))


def scan(*paths, cwd=ROOT):
    return subprocess.run(
        [sys.executable, SCRIPT, *paths],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_names_the_place_and_never_the_secret(tmp_path):
    secret, _ = planted()["AWS secret key"]
    (tmp_path / "deploy.sh").write_bytes(b"#!/bin/sh\nexport " + secret + b"\n")
    assert "deploy.sh:2" in scan(cwd=tmp_path).stdout, "sources without a repository"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    for done in (scan(cwd=tmp_path), scan("deploy.sh", cwd=tmp_path), scan(tmp_path)):
        assert done.returncode == 1
        assert "deploy.sh:2: AWS secret key" in done.stdout
        assert secret.decode().split()[-1] not in done.stdout


def test_there_is_none_in_the_repository():
    if not (ROOT / ".git").exists():
        pytest.skip("no repository: a copy of the sources")
    done = scan()
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", PACKAGES or [None], ids=lambda path: path and path.name)
def test_there_is_none_in_the_debian_package(package):
    if package is None:
        pytest.skip("no package in dist (make deb)")
    done = scan(package)
    assert done.returncode == 0, done.stdout


# --- a run from a bare board to a vehicle that sends ------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Cloud, provisioning and agent with all they log; ``(folder with the logs, state dir)``."""
    folder = tmp_path_factory.mktemp("run")
    logs = folder / "logs"
    logs.mkdir()

    def keep(name, done):
        (logs / name).write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr

    with running_cloud(folder / "cloud") as cloud:
        data = ("--data", cloud.data_dir)
        keep("claim", milepost_cloud("fleet", "claim", "create", "--out", folder / "claim", *data))
        keep("allow", milepost_cloud("fleet", "allow", "add", "S1", "van-1", *data))
        config = folder / "agent.toml"
        config.write_text(f"""
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[log]
level = "debug"
[broker]
host = "localhost"
port = {cloud.port}
ca_file = "claim/ca.pem"
[provision]
claim_certificate_file = "claim/certificate.pem"
claim_key_file = "claim/key.pem"
parameters = {{ SerialNumber = "S1" }}
""")

        def agent(*words):
            return subprocess.run(
                [sys.executable, "-m", "agent", *words, "--config", str(config)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        keep("provision", agent("provision"))
        with (logs / "agent").open("wb") as log:
            running = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(config)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            wait_until(lambda: "van-1 connected" in cloud.log.read_text(), "the vehicle", 60)
            listed = milepost_cloud("fleet", "describe", "van-1", "--json", *data)
            keep("describe", listed)
            bundle = folder / "bundle.tar.gz"
            keep("diagnostics", agent("diagnostics", "--with-samples", "--out", str(bundle)))
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
        cloud.stop()
        (logs / "cloud").write_bytes(cloud.log.read_bytes())
    return logs, folder / "state"


@pytest.fixture
def bundle(run):
    return run[1].parent / "bundle.tar.gz"


def keys_below(folder):
    """The lines of every private key that a run has made."""
    lines = set()
    for path in folder.rglob("*.pem"):
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem:
            lines |= {line for line in pem.splitlines() if len(line) > 40}
    assert lines, f"no key below {folder}"
    return lines


def test_there_is_none_in_the_logs_of_a_run(run):
    logs, state = run
    assert {path.name for path in logs.iterdir()} >= {"agent", "cloud", "provision"}
    assert list(scanner.scan(logs)) == []
    for line in keys_below(state) | keys_below(state.parent / "claim"):
        assert not any(line in path.read_bytes() for path in logs.iterdir())


def test_a_key_in_such_a_log_is_found(run, tmp_path):
    logs, state = run
    (key,) = (path for path in state.rglob("key.pem"))
    copy = tmp_path / "agent"
    copy.write_bytes((logs / "agent").read_bytes() + b"sent " + repr(key.read_bytes()).encode())
    assert [finding.kind for finding in scanner.scan(copy)] == ["private key (PEM)"]


def test_there_is_none_in_the_diagnostic_bundle(run, bundle):
    _, state = run
    assert list(scanner.scan(bundle)) == []
    with tarfile.open(bundle) as packed:
        contents = [packed.extractfile(one).read() for one in packed if one.isfile()]
    assert len(contents) > 3
    for line in keys_below(state) | keys_below(state.parent / "claim"):
        assert not any(line in content for content in contents)


def test_a_key_in_such_a_bundle_is_found(run, bundle, tmp_path):
    _, state = run
    spoilt = tmp_path / "bundle.tar.gz"
    with tarfile.open(bundle) as packed, tarfile.open(spoilt, "w:gz") as copy:
        for one in packed:
            copy.addfile(one, packed.extractfile(one) if one.isfile() else None)
        copy.add(next(state.rglob("key.pem")), "state/identity/key.pem")
    (finding,) = scanner.scan(spoilt)
    assert finding.place.endswith("state/identity/key.pem")
