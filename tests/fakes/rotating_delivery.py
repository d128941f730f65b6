"""A delivery with its rotation in this process, which records samples all the time."""

import threading
import time

from agent.config import BrokerSettings, IdentitySettings
from agent.identity import IdentityStore
from agent.identity.rotation import Rotation
from agent.publisher import PublisherLimits
from agent.publisher.backoff import BackoffSettings
from agent.publisher.changeover import ChangeoverLimits
from tests.fakes.delivering_vehicle import RealTime, make_delivery, make_sample

QUICK = PublisherLimits(
    changeover=ChangeoverLimits(
        backoff=BackoffSettings(base_s=0.2, cap_s=0.5, refused_base_s=0.2, refused_cap_s=0.5)
    )
)
OBTAINED = "2026-11-21T18:30:00Z"
INTERVAL_S = 0.05


def until(condition, what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def keep_as_provisioned(folder, own):
    store = IdentityStore(folder)
    store.begin("milepost_by_claim", key_pem=own.key_file.read_bytes())
    store.keep_certificate(
        own.certificate_file.read_bytes(), certificate_id="c1", token="t", received_at=OBTAINED
    )
    store.keep_registration("van-1")
    store.commit(obtained_at=OBTAINED)
    return folder


class RotatingDelivery:
    """``made_s`` has the monotonic time at which each sample was recorded, by its sequence."""

    def __init__(self, state_dir, port, ca_file, library, *, run_id="0000000a", clock=None):
        self.store = IdentityStore(state_dir)
        current = self.store.current()
        identity = {
            "ca_file": ca_file,
            "certificate_file": current.certificate_file,
            "key_file": current.key_file,
        }
        self.clock, self.run_id = clock or RealTime(), run_id
        self.delivery = make_delivery(
            state_dir, port, identity, run_id=run_id, mqtt_library=library, limits=QUICK
        )
        self.told, self.ends = [], []
        self.rotation = Rotation(
            clock=self.clock,
            state_dir=state_dir,
            vehicle_id="van-1",
            broker=BrokerSettings(host="localhost", port=port, transport=library, **identity),
            token=None,
            settings=IdentitySettings(),
            exchange=self.delivery.exchange,
            publisher=self.delivery.publisher,
            tell=self.told.append,
        )
        self.rotation.observe(self.ends.append)
        self.sequence = 0
        self.made_s = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def __enter__(self):
        self.delivery.start()
        self.rotation.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join(10)
        self.rotation.stop()
        self.delivery.stop(20)

    def _record(self):
        while not self._stopping.wait(INTERVAL_S):
            self.sequence += 1
            self.made_s[self.sequence] = time.monotonic()
            self.delivery.record_sample(make_sample(self.sequence, self.clock, self.run_id))

    def online(self):
        until(lambda: self.delivery.publisher.connected, "it does not connect")

    def rotate(self, reason="a test asks"):
        before = len(self.ends)
        self.rotation.request(reason)
        until(lambda: len(self.ends) > before, "the rotation does not end")
        return self.ends[-1]

    def wait(self):
        until(lambda: self.ends, "the rotation does not end")
        return self.ends[-1]
