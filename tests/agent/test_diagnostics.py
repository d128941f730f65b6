"""The diagnostic bundle: secrets planted everywhere, and none found in it."""

import base64
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.parts import load_parts
from agent.diagnostics.bundle import MAX_PART_BYTES, collect, write
from agent.diagnostics.parts import PARTS, SAMPLES, Part, Scene
from agent.diagnostics.redact import redact_text, redact_tree
from agent.diagnostics.secrets import known_secrets
from agent.doctor.subject import Subject
from agent.errors import StateError
from tests.conftest import ROOT
from tests.fakes.pki import Pki

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbU"  # not a secret
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # not a secret: of the documentation
TEXTS = {
    "a password": ("wifi password: hunter2-lamp", "hunter2-lamp"),
    "a password in JSON": ('{"password": "hunter2 lamp"}', "hunter2 lamp"),
    "a passphrase of TOML": ("passphrase = 'hunter2 lamp'", "hunter2 lamp"),
    "a key of wpa_supplicant": ('    psk="hunter2 lamp"', "hunter2 lamp"),
    "a hexadecimal key": ("psk=" + "0a1b" * 16, "0a1b" * 16),
    "a PIN": ("user_pin=73915", "73915"),
    "a PIN by itself": ("pin: 73915", "73915"),
    "an option": ("curl --token 8a7s6df8a7s6 https://x", "8a7s6df8a7s6"),
    "a user in a URL": ("apt https://max:hunter2@example.com/x", "hunter2"),
    "a header": ("Authorization: Bearer abc123def456", "abc123def456"),
    "a header of HTTP": ("sent 'authorization': Basic bWF4Omh1bnRlcjI=", "bWF4Omh1bnRlcjI="),
    "a pre-signed URL": (
        "GET /x?X-Amz-Signature=9f86d081884c7d65&X-Amz-Date=1",
        "9f86d081884c7d65",
    ),
    "a session token": ("?X-Amz-Security-Token=IQoJb3JpZ2lu&a=b", "IQoJb3JpZ2lu"),
    "an access key": ("key AKIAIOSFODNN7EXAMPLE used", "AKIAIOSFODNN7EXAMPLE"),
    "a secret key of AWS": (f"found {AWS_SECRET} there", AWS_SECRET),
    "a JSON Web Token": (f"token is {JWT}.", JWT),
    "an ownership token": ('{"certificateOwnershipToken":"abc.def"}', "abc.def"),
}
HARMLESS = (
    "2026-03-01T12:00:00Z info publisher: connected to localhost:8883",
    "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "/opt/milepost/lib/python3/site-packages/paho/mqtt/packettypes.py",
    "boot 3d028a0a-c0ab-4704-95fc-f07d7c59203a, spinning up, pinned 3, run f3a1c2d4e5f6",
    "can0: bitrate 500000 restart-ms 100 berr-counter tx 0 rx 0",
    "lat 50.1105, keepalive: 60, key not found, author: nobody",
)


@pytest.mark.parametrize("case", TEXTS)
def test_what_looks_like_a_secret_is_taken_out(case):
    text, secret = TEXTS[case]
    assert secret not in redact_text(text)
    assert secret not in json.dumps(redact_tree({"message": [text]}))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_stays(text):
    assert redact_text(text) == text


@pytest.fixture(scope="module")
def key_pem(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp("pki"))
    return pki.vehicle("van-1").key_file.read_text()


def pieces_of(pem):
    return [line for line in pem.splitlines() if not line.startswith("-----")]


@pytest.mark.parametrize(
    "form",
    [
        lambda pem: pem,
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: json.dumps({"privateKey": pem}),
        json.dumps,
        lambda pem: "".join(f"Nov 21 18:00:00 board agent[7]: {x}\n" for x in pem.splitlines()),
        lambda pem: "before\n" + pem[: len(pem) // 2],
        lambda pem: "".join(pem.splitlines()[1:-1]),
    ],
    ids=["plain", "crlf", "json", "string", "journal", "cut off", "in one line"],
)
def test_no_piece_of_a_private_key_is_left_in_whatever_form(key_pem, form):
    text = redact_text("start\n" + form(key_pem) + "\nend")
    assert [piece for piece in pieces_of(key_pem) if piece in text] == []
    assert "start" in text
    assert text.endswith("end")


def test_a_secret_by_its_name_goes_whatever_its_type():
    tree = {"pin": 1234, "tokens": ["a", {"b": "c"}], "key_file": "/x/key.pem", "secret": None}
    assert redact_tree(tree) == {
        "pin": "[redacted]",
        "tokens": "[redacted]",
        "key_file": "[path redacted]",
        "secret": None,
    }


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_redaction_takes_whatever_json_can_hold_and_twice_is_once(tree):
    once = redact_tree(tree)
    assert redact_tree(json.loads(json.dumps(once))) == once


# --- secrets planted everywhere --------------------------------------------------------

CONFIG = """
# the password of the depot's Wi-Fi is planted-comment-1
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[gps]
source = "none"
[broker]
host = "localhost"
ca_file = "identity/ca.pem"
certificate_file = "identity/certificate.pem"
key_file = "identity/hidden-place/key.pem"
[provision.parameters]
DepotToken = "planted-parameter-2"
"""


@pytest.fixture
def board(tmp_path, key_pem):
    """A vehicle with secrets wherever somebody could have put one; gives them."""
    planted = {
        "planted-comment-1",
        "planted-parameter-2",
        "planted-account-3",
        "planted-log-4",
        "planted-wifi-5",
        "planted-environment-6",
        "planted-job-7",
        "planted-run-8",
        *pieces_of(key_pem),
        "hidden-place",
    }
    identity = tmp_path / "identity" / "hidden-place"
    identity.mkdir(parents=True)
    (identity / "key.pem").write_text(key_pem)
    state = tmp_path / "state"
    (state / "identity" / "generations" / "1").mkdir(parents=True)
    (state / "identity" / "generations" / "1" / "key.pem").write_text(key_pem)
    (state / "jobs").mkdir()
    url = "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=planted-job-7"
    (state / "jobs" / "current.json").write_text(json.dumps({"parameters": {"upload_url": url}}))
    (state / "last-run.json").write_text(json.dumps({"faults": [{"token": "planted-run-8"}]}))
    (tmp_path / "agent.toml").write_text(CONFIG)
    wifi = tmp_path / "root" / "etc" / "NetworkManager" / "system-connections"
    wifi.mkdir(parents=True)
    (wifi / "depot.nmconnection").write_text("[wifi-security]\npsk=planted-wifi-5\n")
    return tmp_path, planted


def subject_of(folder, account=None):
    file = folder / "agent.toml"
    return Subject(file, load_parts(file), account=account)


def read_bundle(file):
    with tarfile.open(file) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }


def test_of_secrets_planted_everywhere_none_is_in_the_bundle(board, key_pem):
    folder, planted = board
    url = "https://u:planted-account-3@host"  # not a secret: made up
    account = {"faults": [{"reason": url}], "key": key_pem}
    log = f"joined depot with planted-wifi-5\npassword=planted-log-4\n{key_pem}\n"
    log += f"cannot read {folder}/identity/hidden-place/key.pem; planted-environment-6 said\n"
    log += "\n".join(base64.b64encode(one.encode()).decode() for one in pieces_of(key_pem))
    subject = subject_of(folder, account)
    known = known_secrets(
        subject.config_file,
        subject.parts,
        environ={"API_TOKEN": "planted-environment-6", "HOME": "/root"},
        root=folder / "root",
    )
    entries = collect(Scene(subject, log), (*PARTS, SAMPLES), known)
    write(folder / "bundle.tar.gz", entries, "van-1")
    found = read_bundle(folder / "bundle.tar.gz")
    everything = "\n".join(found.values())
    assert [secret for secret in planted if secret in everything] == []
    assert "[path of broker.key_file]" in found["log.txt"]
    assert "joined depot with [redacted]" in found["log.txt"]
    assert json.loads(found["config.json"])["vehicle"]["id"] == "van-1"
    assert json.loads(found["doctor.json"])["findings"]
    assert set(found) == {"README.txt", "samples.jsonl", *(part.name for part in PARTS)}
    for name in found:
        assert name == "README.txt" or name in found["README.txt"]


@pytest.mark.parametrize("with_samples", [False, True])
def test_where_the_vehicle_is_stays_out_unless_it_is_asked_for(board, with_samples):
    folder, _ = board
    sample = {"location": {"lat": 50.110512, "lon": 8.682112}, "battery": {"percent": 71}}
    (folder / "state" / "last-run.json").write_text(json.dumps({"last_sample": sample}))
    subject = subject_of(folder, {"last_sample": sample})
    scene = Scene(subject, with_samples=with_samples)
    entries = collect(scene, [part for part in PARTS if part.name != "doctor.json"], {})
    everything = b"".join(entry.content for entry in entries).decode()
    assert ("50.110512" in everything) == with_samples
    assert everything.count('"percent": 71') == 2


def test_the_docs_list_what_is_in_a_bundle():
    page = (ROOT / "docs" / "diagnostics.md").read_text()
    assert re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE) == [
        part.name for part in (*PARTS, SAMPLES)
    ]


def test_a_pin_is_known_by_its_file(tmp_path):
    (tmp_path / "pin").write_text("739152\n")
    broker = tomllib.loads(CONFIG)["broker"] | {"transport": "awscrt"}
    del broker["key_file"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in broker.items()]
    (tmp_path / "agent.toml").write_text(
        '[vehicle]\nid = "van-1"\n[broker]\n' + "\n".join(lines) + "\n[broker.pkcs11]\n"
        'module_file = "m.so"\ntoken_label = "t"\nkey_label = "k"\npin_file = "pin"\n'
    )
    subject = subject_of(tmp_path)
    known = known_secrets(subject.config_file, subject.parts, environ={}, root=tmp_path)
    assert redact_text("C_Login with 739152 failed", known) == "C_Login with [redacted] failed"
    assert str(tmp_path / "pin") not in redact_text(f"open {tmp_path}/pin", known)


def test_a_part_is_bounded_and_keeps_its_end(board):
    folder, _ = board
    lines = "".join(f"line {number}\n" for number in range(400_000))
    part = Part("log.txt", "a log", lambda _: lines)
    (entry,) = collect(Scene(subject_of(folder)), [part], {})
    assert len(entry.content) <= MAX_PART_BYTES
    assert entry.content.endswith(b"line 399999\n")
    assert entry.content.startswith(b"line ")
    assert "last" in entry.note


def test_a_part_that_fails_is_told_in_the_list_and_costs_no_other(board):
    folder, _ = board

    def fails(_):
        raise OSError(13, "password=planted-log-4")

    parts = [Part("a.json", "a", fails), Part("b.json", "b", lambda _: {"fine": True})]
    first, second = collect(Scene(subject_of(folder)), parts, {})
    assert "could not be had" in first.note
    assert "planted" not in first.note
    assert json.loads(second.content) == {"fine": True}


def test_a_bundle_is_its_owners_alone_and_never_written_over(tmp_path):
    file = tmp_path / "bundle.tar.gz"
    write(file, [], "van-1")
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StateError, match="there already"):
        write(file, [], "van-1")
    with pytest.raises(StateError):
        write(tmp_path / "nowhere" / "bundle.tar.gz", [], "van-1")


def test_the_command_lists_what_is_in_the_file(board):
    folder, planted = board
    done = subprocess.run(
        [
            *(sys.executable, "-m", "agent", "diagnostics", "--config", folder / "agent.toml"),
            *("--out", folder / "b.tar.gz", "--log-from-stdin"),
        ],
        cwd=ROOT,
        input="a line with password=planted-log-4 in it\n",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "MY_SECRET": "planted-environment-6"},  # not a secret: made up
    )
    assert done.returncode == 0, done.stderr
    for part in PARTS:
        assert part.about in done.stdout
    found = read_bundle(folder / "b.tar.gz")
    assert "a line with password=[redacted] in it" in found["log.txt"]
    assert [secret for secret in planted if secret in "\n".join(found.values())] == []
