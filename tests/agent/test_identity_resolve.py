"""Config and identity together: one config for a fleet, and what is told where they disagree."""

import pytest

from agent.config import load
from agent.config.parts import load_parts
from agent.doctor import broker, certificate
from agent.doctor.subject import examine
from agent.errors import ConfigError, IdentityError
from agent.identity import IdentityStore, identified, identified_parts
from tests.agent.test_identity_store import NOW
from tests.fakes.pki import Pki

FLEET = """
[state]
dir = "state"
runtime_dir = "run"
[broker]
host = "127.0.0.1"
port = 9
ca_file = "ca.pem"
"""


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def config(tmp_path, pki):
    def write(extra=""):
        path = tmp_path / "agent.toml"
        path.write_text(FLEET + extra)
        return path

    return write


@pytest.fixture
def provisioned(tmp_path, pki):
    def provision(name="van-7", key_label=None):
        store = IdentityStore(tmp_path / "state")
        files = pki.vehicle("serial-1")
        key = {"key_label": key_label} if key_label else {"key_pem": files.key_file.read_bytes()}
        store.begin("milepost_by_claim", **key)
        pem = files.certificate_file.read_bytes()
        store.keep_certificate(pem, certificate_id="c1", token="t", received_at=NOW)
        store.keep_registration(name)
        return store.commit(obtained_at=NOW)

    return provision


def test_a_config_without_vehicle_and_certificate_is_filled_in_from_the_identity(
    config, provisioned
):
    identity = provisioned()
    settings = identified(load(config()))
    assert settings.vehicle.id == "van-7"
    assert settings.broker.certificate_file == identity.certificate_file
    assert settings.broker.key_file == identity.key_file
    assert identified(settings) is settings


def test_a_config_that_names_everything_needs_no_identity(config, tmp_path):
    text = 'certificate_file = "c.pem"\nkey_file = "k.pem"\n[vehicle]\nid = "van-1"\n'
    settings = load(config(text))
    assert identified(settings) is settings


def test_without_either_it_says_that_provisioning_is_missing(config):
    with pytest.raises(IdentityError, match="not provisioned yet") as caught:
        identified(load(config()))
    assert "milepost-agent provision" in caught.value.hint


def test_a_vehicle_that_was_registered_under_another_name_is_refused(config, provisioned):
    provisioned("van-7")
    with pytest.raises(IdentityError, match=r"vehicle\.id is 'van-8'.*provisioned as 'van-7'"):
        identified(load(config('[vehicle]\nid = "van-8"\n')))


def test_a_key_in_a_token_has_the_label_of_its_generation(config, provisioned):
    provisioned(key_label="vehicle-key-1")
    token = (
        'transport = "awscrt"\n[broker.pkcs11]\nmodule_file = "m.so"\ntoken_label = "van"\n'
        'key_label = "vehicle-key"\npin_file = "pin"\n'
    )
    settings = identified(load(config(token)))
    assert settings.broker.pkcs11.key_label == "vehicle-key-1"
    assert settings.broker.key_file is None
    with pytest.raises(IdentityError, match="is in a PKCS#11 token, and the config says otherwise"):
        identified(load(config()))


def test_a_key_without_its_certificate_is_refused(config):
    with pytest.raises(ConfigError, match="certificate_file is missing"):
        load(config('key_file = "k.pem"\n'))


def test_onlookers_see_the_identity_of_a_config_that_is_broken_elsewhere(config, provisioned):
    identity = provisioned()
    parts = identified_parts(load_parts(config("[outbox]\nmax_mb = -1\n")))
    assert parts.fault is not None
    assert parts.vehicle_id == "van-7"
    assert parts.broker.certificate_file == identity.certificate_file


def test_doctor_says_that_the_vehicle_is_not_provisioned_and_looks_on(config):
    subject = examine(config())
    [finding] = certificate.check(certificate.gather(subject))
    assert finding.code == certificate.NOT_PROVISIONED.code
    assert [found.code for found in broker.check(broker.gather(subject))] == ["broker-refused"]


def test_doctor_judges_the_certificate_that_provisioning_left(config, provisioned):
    provisioned()
    findings = list(certificate.check(certificate.gather(examine(config()))))
    assert findings[-1].code in {"cert-good", "cert-expires-soon"}
    assert not any(found.code == certificate.OTHER_NAME.code for found in findings)


def test_doctor_says_what_is_wrong_with_an_identity_of_another_name(config, provisioned):
    provisioned("van-7")
    subject = examine(config('[vehicle]\nid = "van-8"\n'))
    [finding] = certificate.check(certificate.gather(subject))
    assert finding.code == certificate.UNUSABLE.code
    assert "van-7" in finding.text
