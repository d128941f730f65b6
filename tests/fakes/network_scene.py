"""A vehicle that records while its network fails, and the account of it afterwards.

``check`` needs only what was created, what an independent witness heard and the agent's
account, so it judges a vehicle in another machine as well.
"""

import math
import threading
import time
from collections import Counter
from dataclasses import dataclass

from agent.account import imbalance
from agent.config import DeliverySettings
from agent.publisher import BackoffSettings, PublisherLimits
from contract import decode_batch, decode_event, decode_sample
from simulator.network.faults import parse_fault
from simulator.network.relay import Relay
from tests.fakes.delivering_vehicle import RealTime, make_delivery, make_sample

VEHICLE, RUN = "van-1", "0000000a"
BACKOFF = BackoffSettings(base_s=0.05, cap_s=0.5, stable_s=30, least_gap_s=0.05)
QUICK = PublisherLimits(
    connect_timeout_s=1.0, ack_timeout_s=0.5, trial_after_s=0.5, backoff=BACKOFF
)
"""A connection that holds for less than 30 s never resets this back-off in a short run."""


def wait(condition, what, timeout_s=40):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


def identities(messages, vehicle_id=VEHICLE):
    """Every (run_id, sequence) in ``[(topic, payload)]``, in order, with repetitions."""
    found = []
    for topic, payload in messages:
        if topic.endswith(f"telemetry/{vehicle_id}"):
            found.append(decode_sample(payload))
        elif topic.endswith(f"telemetry/{vehicle_id}/batch"):
            found.extend(decode_batch(payload))
        elif topic.endswith(f"events/{vehicle_id}"):
            found.append(decode_event(payload))
    return [(one.run_id, one.sequence) for one in found]


@dataclass(frozen=True)
class Verdict:
    """``duplicates``: deliveries beyond the first of each."""

    missing: set
    duplicates: Counter
    account: dict

    @property
    def duplicated(self):
        return sum(self.duplicates.values())


def check(created, messages, account):
    """What was lost, what came twice; the agent's books must balance."""
    heard = Counter(identities(messages, account["vehicle_id"]))
    assert imbalance(account) == 0, account
    return Verdict(
        missing=set(created) - set(heard),
        duplicates=Counter({key: count - 1 for key, count in heard.items() if count > 1}),
        account=account,
    )


def most_attempts(backoff, during_s):
    """So many CONNECTs may full jitter make in a time, at 6 sigma; each counts as failed at once.

    The mean wait is half the ceiling; the variance of a uniform wait is ceiling² / 12.
    """
    attempts, mean_s, variance = 1, 0.0, 0.0
    while mean_s - 6 * math.sqrt(variance) < during_s:
        ceiling_s = min(backoff.cap_s, backoff.base_s * 2.0 ** min(attempts - 1, 60))
        mean_s += max(ceiling_s / 2, backoff.least_gap_s)
        variance += ceiling_s**2 / 12
        attempts += 1
    return attempts


class Scene:
    """Records ``rate`` samples a second from ``with`` to ``end``; the network is ``become``'s."""

    def __init__(self, folder, broker_port, identity, *, witness=None, rate=50, **more):
        more.setdefault("limits", QUICK)
        more.setdefault("flush_interval_s", 0.2)
        self.settings = more.setdefault("delivery", DeliverySettings())
        self.limits = more["limits"]
        self.relay = Relay("127.0.0.1", broker_port)
        self.witness = witness
        self.created = []
        self.voided = Counter()
        """How often each was in flight when its connection ended: it may come twice."""
        self.worst_loss = 0
        """Most publishes in flight when a connection ended."""
        self._make = lambda: make_delivery(folder, self.relay.port, identity, run_id=RUN, **more)
        self._rate = rate
        self._clock = RealTime()
        self._stopping = threading.Event()
        self._put_lock = threading.Lock()
        self._thread = threading.Thread(target=self._record, name="scene", daemon=True)

    def __enter__(self):
        self.relay.start()
        self.delivery = self._make()
        window = self.delivery.publisher._window
        void = window.void

        def noted():
            lost = void()
            self.worst_loss = max(self.worst_loss, len(lost))
            self.voided.update((m.run_id, m.sequence) for over in lost for m in over.messages)
            return lost

        window.void = noted
        self.delivery.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop_recording()
        self.delivery.stop(0)
        self.relay.stop()

    def _record(self):
        while not self._stopping.wait(1 / self._rate):
            self.record()

    def record(self, count=1):
        """More samples, now."""
        with self._put_lock:
            for _ in range(count):
                sequence = len(self.created) + 1
                self.created.append((RUN, sequence))
                self.delivery.record_sample(make_sample(sequence, self._clock, RUN, VEHICLE))

    def _stop_recording(self):
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def connected(self):
        return self.delivery.publisher.connected

    @property
    def attempts(self):
        """Connections that reached the proxy: at least the CONNECTs."""
        return self.relay.counts.arrived

    def acknowledged(self):
        return self.delivery.account()["samples_acknowledged"]

    def wait_connected(self):
        wait(lambda: self.connected, "not connected")

    def wait_progress(self, count=5):
        """Until so many more samples are acknowledged."""
        enough = self.acknowledged() + count
        wait(lambda: self.acknowledged() >= enough, "nothing is acknowledged")

    def become(self, fault=None):
        self.relay.become(*([parse_fault(fault).condition] if fault else []))

    def hold(self, fault, for_s):
        """The network has a fault for so long; the connections that were made meanwhile."""
        before = self.attempts
        self.become(fault)
        time.sleep(for_s)
        made = self.attempts - before
        self.become()
        return made

    def end(self, *, lost_by_broker=frozenset(), broker_repeats=False):
        """Record no more, wait until all is delivered, and judge."""
        self._stop_recording()
        waiting = self.delivery.outbox.waiting
        wait(lambda: waiting() == 0, lambda: f"{waiting()} messages were not delivered", 60)
        assert self.delivery.account()["dropped_messages"] == {}
        wanted = set(self.created) - set(lost_by_broker)

        def missing():
            return wanted - set(identities(self.witness.messages))

        wait(lambda: not missing(), lambda: f"missing: {sorted(missing())[:20]}")
        verdict = check(self.created, self.witness.messages, self.delivery.account())
        assert verdict.missing <= set(lost_by_broker)
        assert verdict.account["samples_acknowledged"] == len(self.created)
        # QoS 1 allows twice only what was sent and not acknowledged when a connection ended
        assert broker_repeats or verdict.duplicates <= self.voided
        assert self.worst_loss <= self.settings.in_flight + 1  # the status goes beside the window
        return verdict
