"""One authority, one vehicle and one Mosquitto for the network's scenarios."""

import dataclasses
import os

import pytest

from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.network_scene import VEHICLE, Scene
from tests.fakes.pki import Pki


@pytest.fixture(scope="session")
def full():
    """Whether the long form is wanted: minutes instead of seconds (make test-network)."""
    return os.environ.get("MILEPOST_FULL") == "1"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def vehicle(pki):
    return {name: str(path) for name, path in dataclasses.asdict(pki.vehicle(VEHICLE)).items()}


@pytest.fixture(scope="module")
def broker_identity(pki):
    return pki.broker()


@pytest.fixture(scope="module")
def listener_identity(pki):
    return pki.vehicle(LISTENER)


@pytest.fixture
def make_broker(tmp_path, broker_identity, free_port):
    """A function that prepares a Mosquitto with lines of its own in the config."""
    return lambda extra="": Mosquitto(tmp_path / "broker", broker_identity, free_port(), extra)


@pytest.fixture
def broker(make_broker):
    with make_broker() as running:
        yield running


@pytest.fixture
def listener(broker, listener_identity):
    with MosquittoSub(listener_identity, broker.port) as hearing:
        yield hearing


@pytest.fixture
def scene(broker, listener, vehicle, tmp_path):
    """A vehicle that is connected and records; the test makes its network bad."""
    with Scene(tmp_path / "state", broker.port, vehicle, witness=listener) as playing:
        playing.wait_connected()
        playing.wait_progress()
        yield playing
