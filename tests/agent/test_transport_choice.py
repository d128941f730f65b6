"""Which transport the config chooses, and what is said where it cannot be had."""

import sys

import pytest

from agent.config import BrokerSettings, Pkcs11Settings, TransportKind
from agent.errors import ConfigError, IdentityError
from agent.host import SystemClock
from agent.transport import check_transport, make_transport
from tests.fakes.pki import Pki


@pytest.fixture
def broker(tmp_path):
    """A function that makes the section of the config."""
    identity = Pki(tmp_path).vehicle("van-1")

    def build(transport, **changes):
        files = {
            "ca_file": identity.ca_file,
            "certificate_file": identity.certificate_file,
            "key_file": identity.key_file,
        }
        return BrokerSettings(host="localhost", transport=transport, **{**files, **changes})

    return build


def built(settings):
    return make_transport(settings, clock=SystemClock(), client_id="van-1", make_will=lambda: None)


@pytest.mark.parametrize(
    ("name", "class_name"), [("paho", "PahoTransport"), ("awscrt", "CrtTransport")]
)
def test_the_config_chooses_the_transport(name, class_name, broker):
    check_transport(broker(name))
    transport = built(broker(name))
    assert type(transport).__name__ == class_name
    transport.close()


def test_without_the_extra_it_is_said_how_to_get_it_and_paho_works(broker, monkeypatch):
    monkeypatch.setitem(sys.modules, "awscrt", None)
    monkeypatch.setitem(sys.modules, "awscrt.mqtt5", None)
    for call in (built, check_transport):
        with pytest.raises(ConfigError, match=r"the package awscrt cannot be used") as error:
            call(broker(TransportKind.AWSCRT))
        assert "pip install 'milepost[agent-awscrt]'" in error.value.hint
    check_transport(broker(TransportKind.PAHO))
    built(broker(TransportKind.PAHO)).close()


def test_a_token_that_cannot_be_used_is_found_before_anything_is_dialled(broker, tmp_path):
    pin = tmp_path / "pin"
    pin.write_text("1234", encoding="utf-8")
    token = Pkcs11Settings(
        module_file=tmp_path / "ca.pem", token_label="t", key_label="k", pin_file=pin
    )
    with pytest.raises(IdentityError, match=r"broker\.pkcs11\.module_file.*cannot be loaded"):
        check_transport(broker(TransportKind.AWSCRT, key_file=None, pkcs11=token))
