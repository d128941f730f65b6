"""When to kill: each moment waits for its time, which its vehicle's random numbers choose.

A moment returns when the kill is due, and at once when the agent has ended by itself.
"""

from tests.rigs.crash.vehicle import START_TIMEOUT_S


def _sleep(vehicle, duration_s):
    vehicle.wait_while_alive(lambda: False, duration_s)


def in_start_up(vehicle, life, answered):
    """From the first instruction of the interpreter to a little after the first answer."""
    _sleep(vehicle, vehicle.random.uniform(0, 1.15) * vehicle.usual_start_s)


def while_running(vehicle, life, answered):
    """Any time."""
    after_s = vehicle.random.uniform(0, 2.5)
    answered.wait(START_TIMEOUT_S)
    _sleep(vehicle, after_s)


def in_a_commit(vehicle, life, answered):
    """Just when the outbox's log changes: frames are written, the sync is not done."""
    after_s = vehicle.random.uniform(0.2, 1.5)
    answered.wait(START_TIMEOUT_S)
    _sleep(vehicle, after_s)
    log = vehicle.outbox_file.with_name(vehicle.outbox_file.name + "-wal")

    def changed():
        try:
            found = log.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    before = changed()
    vehicle.wait_while_alive(lambda: changed() != before, 2.0)


def in_a_drain(vehicle, life, answered):
    """A link that was dead comes back, the backlog begins to flow."""
    dead_s, flows_s = vehicle.random.uniform(0.2, 1.5), vehicle.random.uniform(0, 1.2)
    vehicle.set_network("cut")
    answered.wait(START_TIMEOUT_S)
    _sleep(vehicle, dead_s)
    before = life.acknowledged
    vehicle.set_network("online")
    vehicle.wait_while_alive(lambda: life.acknowledged > before, 5.0)
    _sleep(vehicle, flows_s)


def in_shutdown(vehicle, life, answered):
    """After SIGTERM: while it drains, commits, folds its log in, says farewell."""
    runs_s, stops_s = vehicle.random.uniform(0, 1.5), vehicle.random.uniform(0, 1.6)
    answered.wait(START_TIMEOUT_S)
    _sleep(vehicle, runs_s)
    if not vehicle.ended():
        vehicle.terminate()
        _sleep(vehicle, stops_s)


MOMENTS = {
    "start-up": in_start_up,
    "running": while_running,
    "commit": in_a_commit,
    "drain": in_a_drain,
    "shutdown": in_shutdown,
}
NETWORKS = ("online", "cut", "frozen")
_STAYS = 0.7
"""Chance that the network is as it was: so backlogs of several lives gather."""


def choose(vehicle):
    """The next moment's name, with the network set for it."""
    network = vehicle.network
    if vehicle.random.random() > _STAYS:
        network = vehicle.random.choices(NETWORKS, (5, 3, 2))[0]
    name = vehicle.random.choices(list(MOMENTS), (2, 3, 3, 2, 2))[0]
    vehicle.set_network(network)
    return name
