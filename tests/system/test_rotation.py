"""Rotation by the real agent against the one-machine cloud, killed at each of its steps in turn.

However it is cut off: the vehicle ends with one identity that works, the cloud with that one
certificate ACTIVE, and no sample is missing without a reason. By default some of the steps
are tried; ``MILEPOST_POWER_CUTS=all`` tries each (10 minutes on two idle cores).
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from cloud.clock import SystemClock
from tests.fakes.one_machine import milepost_cloud, running_cloud, wait_until
from tests.fakes.relay import Relay
from tests.fakes.rotating_vehicle import RotatingVehicle

NEVER = 0
EACH = os.environ.get("MILEPOST_POWER_CUTS") == "all"
SOME = 13
"""Of so many steps one is tried."""


pytestmark = pytest.mark.timeout(3600 if EACH else 600)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running_cloud(tmp_path_factory.mktemp("cloud") / "data", "--no-tiles") as running:
        yield running


@pytest.fixture
def make_vehicle(tmp_path, tmp_path_factory, cloud):
    """A function that makes one with an identity; killed at the end of the test."""
    made = []

    def make(vehicle_id, **options):
        # a unix socket's path has at most 107 bytes
        run_dir = tmp_path_factory.mktemp("r")
        of = {name: options.pop(name) for name in ("port",) if name in options}
        vehicle = RotatingVehicle(tmp_path / vehicle_id, cloud, vehicle_id, run_dir, **of)
        made.append(vehicle)
        return vehicle.provision(**options)

    yield make
    for vehicle in made:
        vehicle.kill()


def steps_of(vehicle):
    return [line.partition(" ")[2] for line in vehicle.steps.read_text().splitlines()]


def at_rest(vehicle, what="the end of the rotation"):
    """What it tells of its identity once it is connected and nothing is under way."""

    def rest(account):
        identity = account.get("identity") or {"rotating_because": "not known yet"}
        return account.get("connected") and not identity["rotating_because"] and identity

    return vehicle.wait(rest, what)


def cut_at(number, vehicle):
    """Kill its rotation there, let it go on, and judge what has become of it."""
    first = vehicle.store.current().certificate_id
    vehicle.start(killed_at=number).online()
    vehicle.rotate()
    assert vehicle.wait_killed(), f"step {number} never came: {steps_of(vehicle)[-3:]}"
    where = f"step {number}, before: {steps_of(vehicle)[-1]}"
    vehicle.start()
    at_rest(vehicle, f"rest after {where}")
    last = vehicle.settled()
    at = vehicle.account()["last_sequence"]
    vehicle.wait(lambda account: account["last_sequence"] > at + 5, "more samples")
    vehicle.stop()
    figures = vehicle.gaps()
    assert figures["unexplained"] == 0, (where, figures["runs"])
    assert figures["runs"][-1]["missing"] == 0, where
    assert vehicle.store.pending() is None, where
    return where, last != first


def test_killed_at_its_steps_a_rotation_ends_with_one_identity_and_nothing_is_lost(
    make_vehicle, capsys
):
    whole = make_vehicle("van-0")
    whole.start(killed_at=NEVER).online()
    whole.rotate()
    assert whole.ended()["succeeded"]
    whole.settled()
    whole.stop()
    assert whole.gaps()["unexplained"] == 0
    count = len(steps_of(whole)) - 1
    assert count > 40
    numbers = range(1, count + 1) if EACH else range(10, count + 1, SOME)
    with ThreadPoolExecutor(2) as pool:
        vehicles = [make_vehicle(f"van-{number}") for number in numbers]
        judged = list(pool.map(cut_at, numbers, vehicles))
    with capsys.disabled():
        for where, rotated in judged if EACH else ():
            print(f"\n{where}: {'the new one' if rotated else 'the old one'}", end="")  # noqa: T201
    assert any(rotated for _, rotated in judged)


def kill_before(vehicle, step):
    """Kill its rotation before a step of that name, whichever number it has."""
    whole = vehicle.start(killed_at=NEVER, killed_before=step).online()
    whole.rotate()
    assert whole.wait_killed(), steps_of(vehicle)


def test_a_new_certificate_that_the_cloud_set_inactive_is_left_and_the_old_one_goes_on(
    make_vehicle,
):
    vehicle = make_vehicle("van-inactive")
    first = vehicle.store.current().certificate_id
    kill_before(vehicle, "changes over")
    vehicle.retire(vehicle.store.pending().certificate.certificate_id)
    vehicle.start()
    identity = at_rest(vehicle)
    assert identity["certificate_id"] == first
    assert not identity["last_rotation"]["succeeded"]
    assert "does not connect" in identity["last_rotation"]["reason"]
    assert vehicle.store.pending() is None
    assert vehicle.settled() == first
    vehicle.wait(
        lambda account: any(one["code"] == "source:identity" for one in account["faults"]),
        "the fault",
    )
    told = vehicle.command("status")
    assert "ROTATION     failed on" in told.stdout
    found = vehicle.command("doctor", "--only", "identity")
    assert "the last rotation failed" in found.stdout
    vehicle.stop()
    figures = vehicle.gaps()
    assert figures["unexplained"] == 0
    assert figures["runs"][-1]["missing"] == 0


def test_an_old_certificate_that_expired_meanwhile_does_not_keep_the_new_one_from_being_used(
    make_vehicle,
):
    expires = SystemClock().utc() + timedelta(seconds=60)  # a slow machine rotates before that
    vehicle = make_vehicle("van-expired", now=expires - timedelta(days=1), days=1)
    first = vehicle.store.current().certificate_id
    kill_before(vehicle, "dials")
    wait_until(lambda: SystemClock().utc() > expires, "the old one's end", 90)
    vehicle.start().online()
    assert at_rest(vehicle)["certificate_id"] != first
    assert vehicle.settled() != first


def test_a_rotation_begun_while_the_cloud_is_away_ends_when_it_is_back(make_vehicle, cloud):
    with Relay(cloud.port) as relay:
        vehicle = make_vehicle("van-away", port=relay.port)
        first = vehicle.store.current().certificate_id
        vehicle.start().online()
        relay.cut()
        assert vehicle.rotate()
        vehicle.wait(lambda account: not account["connected"], "the outage")
        assert "waits for a connection" in vehicle.command("status").stdout or (
            "asking for a certificate" in vehicle.command("status").stdout
        )
        late = vehicle.command("rotate", "--wait", "--timeout", "1")
        assert late.returncode == 1
        assert "it has not ended after 1 s" in late.stderr
        relay.mend()
        assert vehicle.ended()["succeeded"]
        assert vehicle.settled() != first
        vehicle.stop()
    assert vehicle.gaps()["unexplained"] == 0


def test_two_who_ask_at_once_on_the_command_line_both_hear_of_the_same_rotation(
    make_vehicle, cloud
):
    with Relay(cloud.port) as relay:
        vehicle = make_vehicle("van-twice", port=relay.port)
        asks_twice(vehicle, relay)
        vehicle.stop()


def asks_twice(vehicle, relay):
    none = vehicle.command("rotate")
    assert none.returncode == 1
    assert "no agent runs" in none.stderr
    assert "milepost-agent run" in none.stderr
    vehicle.start().online()
    relay.cut()  # so that the first has not ended before the second asks
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(vehicle.command, "rotate", "--wait", told=n) for n in (1, 2)]
        wait_until(lambda: all("..." in vehicle.told(n) for n in (1, 2)), "both to hear of it", 60)
        relay.mend()
        ended = [one.result() for one in asked]
    number = vehicle.settled()
    for one in ended:
        assert one.returncode == 0, one.stderr
        assert f"rotated: certificate {number[:12]}, valid until 20" in one.stdout
    assert vehicle.account()["identity"]["last_rotation"]["number"] == 1
    assert vehicle.store.current().generation == 2
    not_due = vehicle.command("rotate", "--if-due")
    assert not_due.returncode == 0
    assert "nothing to do: the board's clock is not set" in not_due.stdout
    told = vehicle.command("status").stdout
    assert f"identity     certificate {number[:12]}, since 20" in told
    json_told = json.loads(vehicle.command("status", "--json").stdout)
    assert json_told["identity"]["certificate_id"] == number


def test_the_operator_has_a_vehicle_rotate(make_vehicle, cloud):
    vehicle = make_vehicle("van-job")
    first = vehicle.store.current().certificate_id
    vehicle.start().online()
    done = milepost_cloud(
        *("fleet", "rotate", "van-job", "--wait", "90", "--json", "--data", cloud.data_dir)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (execution,) = json.loads(done.stdout)["executions"]
    now = vehicle.settled()
    assert now != first
    assert execution["details"] == {"certificate": now, "certificate_before": first}
    vehicle.stop()
    assert vehicle.gaps()["unexplained"] == 0


@pytest.mark.parametrize("step", ["2", "changes over"])
def test_a_rotation_by_a_job_that_is_cut_off_is_told_of_by_the_next_process(
    make_vehicle, cloud, step
):
    name = f"van-cut-{step[0]}"
    vehicle = make_vehicle(name)
    first = vehicle.store.current().certificate_id
    vehicle.start(killed_at=NEVER, killed_before=step).online()
    at_cloud = ("--data", cloud.data_dir)
    made = milepost_cloud("jobs", "create", "rotate", name, "--job-id", name, *at_cloud)
    assert made.returncode == 0, made.stderr
    assert vehicle.wait_killed()
    vehicle.start().online()
    done = milepost_cloud("jobs", "describe", name, "--wait", "50", *at_cloud)
    assert done.returncode == 0, done.stdout + done.stderr + vehicle.log()
    assert vehicle.settled() != first
