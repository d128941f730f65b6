"""OBD-II and UDS against an ECU on a bus: what is asked, when, and what of it is sent."""

import time
import uuid

import can
import pytest

from agent.config import ObdSettings
from agent.host import SystemClock
from agent.inputs import Inbox, SourceChanged
from agent.sources.obd.source import ObdSource
from simulator.ecu.engine import EngineState, held
from simulator.ecu.node import EcuNode, EcuOptions
from simulator.ecu.obd import parse_code

QUICK = {"spacing_s": 0.02, "answer_timeout_s": 0.2, "dtc_interval_s": 1}


def wait_for(condition, what, within_s=30):
    end_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
    return found


class Bench:
    """A bus, ECUs and the source, on ``virtual``; everything ends with the test."""

    def __init__(self):
        self.channel = uuid.uuid4().hex
        self.clock = SystemClock()
        self.inbox = Inbox()
        self.parts = []

    def ecu(self, *, engine=None, **options):
        node = EcuNode(
            EcuOptions(**options), interface="virtual", channel=self.channel, engine=engine
        )
        node.start()
        self.parts.append(node)
        return node

    def bus(self):
        bus = can.Bus(interface="virtual", channel=self.channel)
        self.parts.append(bus)
        return bus

    def source(self, *, mapped=(), ignition=lambda now_s: None, **config):
        settings = ObdSettings.model_validate(
            {"interface": "virtual", "channel": self.channel, **QUICK, **config}
        )
        source = ObdSource(settings, self.inbox, self.clock, mapped=mapped, ignition=ignition)
        source.start()
        self.parts.append(source)
        return source

    def read(self, source):
        return source.read(self.clock.monotonic_s())

    def changes(self):
        found = []
        while (item := self.inbox.get(0)) is not None:
            assert isinstance(item, SourceChanged)
            found.append((item.available, item.reason))
        return found

    def close(self):
        for part in reversed(self.parts):
            part.shutdown() if isinstance(part, can.BusABC) else part.stop()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


DRIVING = held(EngineState(speed_kmh=83, rpm=1850.25, coolant_degc=88, fuel_percent=62))


@pytest.mark.parametrize("ids", ["11bit", "29bit"])
def test_values_codes_and_vin_of_a_running_engine_arrive_as_contract_fields(bench, ids):
    bench.ecu(
        engine=DRIVING,
        extended=ids == "29bit",
        stored=[parse_code("P0301"), parse_code("U0100")],
        pending=[parse_code("P0420"), parse_code("C1234"), parse_code("B0001")],
    )
    source = bench.source(ids=ids)
    values = wait_for(
        lambda: (
            (found := bench.read(source)).get("signals.vin")
            and len(found.get("diagnostics.error_codes", ())) == 5
            and len(found) == 9
            and found
        ),
        "all values",
    )
    assert values == {
        "motion.speed_kmh": 83,
        "signals.engine_rpm": 1850.25,
        "signals.engine_load_pct": pytest.approx(18, abs=0.2),
        "signals.coolant_temperature_c": 88,
        "signals.fuel_level_pct": pytest.approx(62, abs=0.2),
        "battery.voltage": 14.1,
        "diagnostics.odometer_km": 2458,
        "diagnostics.error_codes": ("B0001", "C1234", "P0301", "P0420", "U0100"),
        "signals.vin": "WMPST000000000001",
    }
    assert source.account()["state"] == "ask"
    assert bench.changes() == []
