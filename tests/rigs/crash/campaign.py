"""A campaign: one broker, its subscriber, a gpsd, several vehicles, load, and many kills."""

import contextlib
import multiprocessing
import os
import random
import threading
import time
from pathlib import Path

from simulator.gpsd_server import GpsdServer
from simulator.trace import read_trace
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.rigs.crash.arrivals import arrivals, is_counted, publishes_taken
from tests.rigs.crash.judge import judge
from tests.rigs.crash.moments import MOMENTS, choose
from tests.rigs.crash.vehicle import FLUSH_INTERVAL_S, ROOT, Vehicle

TRACE = ROOT / "simulator" / "traces" / "default.nmea"
TRACE_SPEED = 4.0

BROKER = """
persistence true
persistence_location {folder}/
max_queued_messages 0
max_inflight_messages 0
"""
"""It saves what it acknowledged and has not passed on when it is stopped; killed it would
lose that, which is Mosquitto's matter and no agent can see."""

DRAIN_TIMEOUT_S = 120.0
QUIET_S = 5.0


class Campaign:
    """``run()`` once."""

    def __init__(self, folder, *, kills, vehicles, seed, broker_port, load, tell, slack_s):
        self.folder = Path(folder)
        self.kills = kills
        self.seed = seed
        self.limit_s = FLUSH_INTERVAL_S + slack_s
        self._load = load
        self._tell = tell
        self._pki = Pki(self.folder / "pki")
        self._broker = Mosquitto(
            self.folder / "broker",
            self._pki.broker(),
            broker_port,
            BROKER.format(folder=self.folder / "broker"),
        )
        self._gpsd = GpsdServer(read_trace(TRACE), speed=TRACE_SPEED, loop=True)
        self._vehicle_count = vehicles
        self._vehicles = []
        self._lock = threading.Lock()
        self._begun = 0
        self._failed = threading.Event()
        self._over = threading.Event()

    def run(self):
        """Kill so many times, let all of it drain, and give the verdict."""
        started_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._over.set)
            stack.enter_context(self._broker)
            self._subscriber = Subscriber(self._pki.vehicle(LISTENER), self._broker.port)
            stack.callback(self._subscriber.end)
            self._gpsd.start()
            stack.callback(self._gpsd.stop)
            self._make_vehicles(stack)
            if self._load:
                stack.enter_context(_load_beside(self.folder / "load"))
            self._run_threads()
            self._tell("the last kill is done; what waits is delivered")
            for vehicle in self._vehicles:
                vehicle.set_network("online")
            _together(lambda vehicle: vehicle.live_to_the_end(DRAIN_TIMEOUT_S), self._vehicles)
            taken = publishes_taken(self._broker.log())
            self._subscriber.wait_for(taken)
            messages = self._subscriber.messages()
        lives = [life for vehicle in self._vehicles for life in vehicle.lives]
        verdict = judge(
            lives,
            arrivals(messages),
            limit_s=self.limit_s,
            broker_took=taken,
            publishes_received=sum(is_counted(topic) for topic, _ in messages),
        )
        return verdict, time.monotonic() - started_s

    def _make_vehicles(self, stack):
        for number in range(1, self._vehicle_count + 1):
            name = f"van-{number}"
            vehicle = Vehicle(
                name,
                self.folder / name,
                identity=self._pki.vehicle(name),
                broker_port=self._broker.port,
                gpsd_port=self._gpsd.port,
                random=random.Random(f"{self.seed} {name}"),
            )
            stack.callback(vehicle.close)
            self._vehicles.append(vehicle)

    def _run_threads(self):
        weather = threading.Thread(target=self._restart_broker, name="broker-restarts")
        weather.start()
        teller = threading.Thread(target=self._tell_progress, name="progress")
        teller.start()
        try:
            _together(self._drive, self._vehicles)
        finally:
            self._over.set()
            weather.join()
            teller.join()

    def _drive(self, vehicle):
        while self._take_one():
            name = choose(vehicle)
            life = vehicle.live(name, MOMENTS[name])
            if life.killed_s is None:
                with self._lock:
                    self._begun -= 1  # it ended by itself: that was no kill
            if life.unsound:
                self._failed.set()

    def _take_one(self):
        with self._lock:
            if self._begun >= self.kills or self._failed.is_set():
                return False
            self._begun += 1
            return True

    def _restart_broker(self):
        chance = random.Random(f"{self.seed} broker")
        while not self._over.wait(chance.uniform(6, 20)):
            self._broker.end()
            self._subscriber.end()
            self._over.wait(chance.uniform(0.2, 2.0))
            self._broker.start()
            self._subscriber.start()

    def _tell_progress(self):
        started_s = time.monotonic()
        while not self._over.wait(10):
            done = sum(life.killed_s is not None for one in self._vehicles for life in one.lives)
            self._tell(
                f"{done} of {self.kills} kills, {time.monotonic() - started_s:.0f} s, "
                f"{len(self._subscriber.messages())} publishes received"
            )


class Subscriber:
    """Successive ``mosquitto_sub`` of one session, one for each life of the broker.

    One that had a message on the way when its broker ended has been seen not to come back.
    """

    def __init__(self, identity, port):
        self._identity = identity
        self._port = port
        self._ended = []
        self._present = None
        self.start()

    def start(self):
        self._present = MosquittoSub(self._identity, self._port, keeps_session=True)

    def end(self):
        if self._present is not None:
            self._present.end()
            self._ended += self._present.messages
        self._present = None

    def messages(self):
        """``[(topic, payload)]`` so far."""
        present = self._present
        return [*self._ended, *(present.messages if present else ())]

    def wait_for(self, publishes):
        """Until it has so many of samples and events, or nothing has come for a while."""
        count, since_s = -1, time.monotonic()
        while time.monotonic() - since_s < QUIET_S:
            messages = self.messages()
            if sum(is_counted(topic) for topic, _ in messages) >= publishes:
                return
            if len(messages) != count:
                count, since_s = len(messages), time.monotonic()
            time.sleep(0.1)


def _together(work, vehicles):
    """Do ``work`` for each in a thread of its own; the first failure is raised."""
    failures = []

    def run(vehicle):
        try:
            work(vehicle)
        except Exception as error:  # noqa: BLE001  raised below, in the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(one,), name=one.name) for one in vehicles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _load_beside(file):
    """A process that writes, syncs and computes in bursts on the same disk and processors."""
    process = multiprocessing.get_context("spawn").Process(target=_burst, args=(str(file),))
    process.daemon = True
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _burst(file):
    block = os.urandom(256 * 1024)
    chance = random.Random()
    while True:
        until_s = time.monotonic() + chance.uniform(0.05, 0.5)
        with open(file, "wb") as sink:  # noqa: PTH123  a plain write is the point
            while time.monotonic() < until_s:
                sink.write(block)
                sink.flush()
                os.fsync(sink.fileno())
        time.sleep(chance.uniform(0.1, 1.5))
