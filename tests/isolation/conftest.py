import logging

import pytest

from tests.conftest import take_port
from tests.fakes.arenas import Embedded, OnMosquitto

BROKERS = [
    pytest.param("embedded", marks=pytest.mark.xdist_group("isolation-embedded")),
    pytest.param(
        "mosquitto",
        marks=[
            pytest.mark.xdist_group("isolation-mosquitto"),
            pytest.mark.needs("mosquitto", "mosquitto_sub"),
        ],
    ),
]


@pytest.fixture(scope="module", params=BROKERS)
def running(request, tmp_path_factory):
    """Each broker once, with certificates of every kind."""
    folder = tmp_path_factory.mktemp(request.param)
    logging.getLogger("cloud").setLevel(logging.INFO)
    place = Embedded(folder) if request.param == "embedded" else OnMosquitto(folder, take_port())
    try:
        place.prepare()
        yield place.start()
    finally:
        place.close()


@pytest.fixture
def arena(running):
    running.forget()
    return running
