import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI

from cloud.errors import StoreError
from cloud.stores.queries import Queries
from cloud.web.api import create_router
from cloud.web.feed import FLEET_POINTS, Feed, trail_limit
from cloud.web.hub import PROBLEM, Hub
from cloud.web.security import content_security_policy
from contract import Mode
from tests.fakes.live_map import StoredFleet, answer, serving

METRE = 1 / 111_195


@pytest.fixture
def fleet(tmp_path):
    fleet = StoredFleet(tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def feed(fleet, tmp_path):
    queries = Queries.open(tmp_path)
    yield Feed(queries)
    queries.close()


def test_a_reading_without_change_sends_nothing(fleet, feed):
    fleet.report("van-1", 50, 8)
    assert feed.read(fleet.clock())["vehicles"].keys() == {"van-1"}
    assert feed.read(fleet.clock()) is None


def test_only_what_changed_is_sent(fleet, feed):
    fleet.report("van-1", 50, 8, percent=70)
    fleet.report("van-2", 51, 8)
    feed.read(fleet.clock())
    fleet.report("van-1", 50.001, 8, percent=70)
    message = feed.read(fleet.clock())
    assert message["vehicles"].keys() == {"van-1"}
    assert message["vehicles"]["van-1"].keys() == {"lat", "fix"}
    assert message["trails"] == {"van-1": {"add": [5000100, 800000], "gap": False}}


def test_a_snapshot_and_the_messages_after_it_agree_with_a_later_snapshot(fleet, feed):
    fleet.report("van-1", 50, 8)
    fleet.alert("van-1", detail="11 %")
    feed.read(fleet.clock())
    known = feed.snapshot(fleet.clock())
    vehicles = json.loads(json.dumps(known["vehicles"]))
    alerts = json.loads(json.dumps(known["alerts"]))
    for step in range(5):
        fleet.report("van-1", 50 + step * 0.001, 8, percent=60 - step)
        fleet.status("van-1", "idle" if step % 2 else "in_trip", backlog=step)
        if step == 3:
            fleet.alert("van-1", resolved=True)
        message = feed.read(fleet.clock())
        for vehicle_id, change in message.get("vehicles", {}).items():
            vehicles[vehicle_id] |= change
        for alert_id, alert in message.get("alerts", {}).items():
            alerts[alert_id] = alert
    later = feed.snapshot(fleet.clock())
    assert vehicles == later["vehicles"]
    assert {key: value for key, value in alerts.items() if value} == later["alerts"] == {}


def test_a_page_that_joins_gets_the_trail_that_is_in_store(fleet, feed):
    start = fleet.now - timedelta(minutes=5)
    fleet.reports("van-1", [(start + timedelta(seconds=s), 50 + s * 1e-4, 8) for s in range(300)])
    feed.read(fleet.clock())
    (segment,) = feed.snapshot(fleet.clock())["trails"]["van-1"]["all"]
    assert segment == [5000000, 800000, 2990, 0]


def test_late_fixes_close_the_gap_that_a_dead_link_left(fleet, feed):
    start = fleet.now - timedelta(minutes=3)
    fixes = [(start + timedelta(seconds=s), 50 + s * 1e-4, 8) for s in range(180)]
    fleet.reports("van-1", fixes[:60])
    fleet.reports("van-1", fixes[120:])
    now = fleet.clock()
    feed.read(now)
    assert len(feed.snapshot(now)["trails"]["van-1"]["all"]) == 2
    fleet.reports("van-1", fixes[60:120])
    assert feed.read(now + timedelta(seconds=1)) is None
    message = feed.read(now + timedelta(seconds=6))
    assert len(message["trails"]["van-1"]["all"]) == 1
    assert feed.read(now + timedelta(seconds=60)) is None


def test_a_gap_that_stays_is_read_again_less_and_less_often(fleet, feed):
    start = fleet.now - timedelta(minutes=3)
    fixes = [(start + timedelta(seconds=s), 50 + s * 1e-4, 8) for s in range(180)]
    fleet.reports("van-1", fixes[:60] + fixes[120:])
    now = fleet.clock()
    read = []
    plain, feed.queries = feed.queries, Counting(feed.queries, read)
    for second in range(300):
        feed.read(now + timedelta(seconds=second))
    feed.queries = plain
    assert 4 <= len(read) <= 8


class Counting:
    """Queries that keep a list of the trails that were read."""

    def __init__(self, queries, read):
        self.vehicles, self.statuses, self.alerts = (
            queries.vehicles,
            queries.statuses,
            queries.alerts,
        )
        self._trail, self._read = queries.trail, read

    def trail(self, vehicle_id, *, since, every_s=1.0):
        self._read.append(vehicle_id)
        return self._trail(vehicle_id, since=since, every_s=every_s)


def test_fifty_vehicles_with_long_trails_are_a_small_snapshot(fleet, feed):
    start = fleet.now - timedelta(minutes=20)
    for number in range(50):
        fixes = [
            (start + timedelta(seconds=s), 50 + (s % 97) * 1e-4, 8 + (s % 89) * 1e-4 + number)
            for s in range(0, 1200, 3)
        ]
        fleet.reports(f"van-{number}", fixes)
    for _ in range(5):
        feed.read(fleet.clock())
    snapshot = feed.snapshot(fleet.clock())
    assert len(snapshot["trails"]) == 50
    points = sum(len(s) / 2 for t in snapshot["trails"].values() for s in t["all"])
    assert points <= FLEET_POINTS
    assert len(json.dumps(snapshot, separators=(",", ":"))) < 200_000


@pytest.mark.parametrize(("vehicles", "points"), [(0, 400), (1, 400), (50, 180), (1000, 40)])
def test_the_more_vehicles_the_shorter_the_trails(vehicles, points):
    assert trail_limit(vehicles) == points


def test_a_status_alone_lists_a_vehicle_without_a_place(fleet, feed):
    fleet.status("van-1", "idle", online=False, backlog=12, interval=10)
    view = feed.read(fleet.clock())["vehicles"]["van-1"]
    assert (view["state"], view["mode"], view["backlog"], view["interval"]) == (
        "offline",
        "idle",
        12,
        10,
    )
    assert "lat" not in view


def test_a_budget_that_limits_the_rate_is_told_and_gone_when_it_is_lifted(fleet, feed):
    fleet.status("van-1", "saver", interval=60, wanted_mode=Mode.IN_TRIP, limited_by="data")
    assert feed.read(fleet.clock())["vehicles"]["van-1"]["limited"] == "data"
    fleet.status("van-1", "in_trip")
    assert feed.read(fleet.clock())["vehicles"]["van-1"]["limited"] is None


def test_a_failing_store_leaves_what_is_known_as_it_was(fleet, feed):
    fleet.report("van-1", 50, 8)
    feed.read(fleet.clock())
    moment = fleet.now
    before = feed.snapshot(moment)
    fleet.report("van-1", 50.1, 8)
    fleet.report("van-2", 50.1, 8)
    plain, feed.queries = feed.queries, Failing(feed.queries)
    with pytest.raises(StoreError):
        feed.read(fleet.clock())
    assert feed.snapshot(moment) == before
    feed.queries = plain
    assert feed.read(fleet.clock())["vehicles"].keys() == {"van-1", "van-2"}


class Failing:
    """Queries whose last call fails."""

    def __init__(self, queries):
        self.vehicles, self.statuses, self.alerts = (
            queries.vehicles,
            queries.statuses,
            queries.alerts,
        )

    def trail(self, vehicle_id, **_):
        raise StoreError("disk full")


class SteadyClock:
    """A clock for the hub."""

    def utc(self):
        return datetime.now(UTC)  # noqa: TID251  only shown


class SwitchableQueries:
    """Queries that fail while ``broken``, and count how often they were asked."""

    def __init__(self, queries):
        self.queries, self.broken, self.readings = queries, False, 0

    def vehicles(self):
        self.readings += 1
        if self.broken:
            raise StoreError("disk full")
        return self.queries.vehicles()

    def __getattr__(self, name):
        return getattr(self.queries, name)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is awaited has no event
            await asyncio.sleep(0.01)


def test_a_hub_reads_only_while_a_page_is_open_and_misses_no_change(fleet, feed):
    queries = SwitchableQueries(feed.queries)
    feed.queries = queries
    first, second = [], []

    async def scenario():
        hub = Hub(feed, SteadyClock(), read_every_s=0.02)
        await hub.stop()
        hub = Hub(feed, SteadyClock(), read_every_s=0.02)
        hub.start()
        await asyncio.sleep(0.1)
        assert queries.readings == 0
        fleet.report("van-1", 50, 8)
        hub.join("a", first.append)
        await until(lambda: first)
        assert first[0]["reset"]
        assert first[0]["vehicles"]["van-1"]["lat"] == 50
        fleet.report("van-1", 50.5, 8)
        hub.join("b", second.append)
        await until(lambda: second and len(first) > 1)
        assert first[1]["vehicles"]["van-1"]["lat"] == 50.5
        assert second[0]["vehicles"]["van-1"]["lat"] == 50.5
        hub.leave("a")
        hub.leave("b")
        hub.leave("b")
        await asyncio.sleep(0.1)
        before = queries.readings
        await asyncio.sleep(0.1)
        assert queries.readings == before
        await hub.stop()
        await hub.stop()

    asyncio.run(scenario())
    assert len(second) == 1


def test_a_store_that_cannot_be_read_is_told_once_and_so_is_its_return(fleet, feed, caplog):
    queries = SwitchableQueries(feed.queries)
    feed.queries = queries
    told = []

    async def scenario():
        hub = Hub(feed, SteadyClock(), read_every_s=0.02)
        hub.start()
        fleet.report("van-1", 50, 8)
        hub.join("a", told.append)
        await until(lambda: told)
        queries.broken = True
        await until(lambda: len(told) > 1)
        await asyncio.sleep(0.1)
        assert told[1]["problem"] == PROBLEM
        assert len(told) == 2
        queries.broken = False
        await until(lambda: len(told) > 2)
        assert told[2]["problem"] is None
        await hub.stop()

    asyncio.run(scenario())
    assert len([record for record in caplog.records if "cannot read" in record.message]) == 1


def test_the_http_interface_shows_vehicles_and_open_alerts_and_takes_no_writing(fleet, feed):
    fleet.report("van-1", 50, 8)
    fleet.status("van-1", "in_trip")
    fleet.alert("van-1", detail="11 %")
    app = FastAPI()
    app.include_router(create_router(feed.queries))
    with serving(app) as url:
        assert answer(f"{url}healthz") == (200, {"status": "ok", "vehicles": 1})
        status, body = answer(f"{url}api/vehicles")
        (vehicle,) = body["vehicles"]
        assert (status, vehicle["vehicle_id"], vehicle["position"]["lat"]) == (200, "van-1", 50)
        (alert,) = answer(f"{url}api/alerts")[1]["alerts"]
        assert (alert["kind"], alert["detail"]) == ("battery_low", "11 %")
        fleet.alert("van-1", resolved=True)
        assert answer(f"{url}api/alerts") == (200, {"alerts": []})
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert answer(f"{url}api/vehicles", method)[0] == 405


def test_the_http_interface_gives_the_latency_that_the_report_gives(fleet, feed):
    app = FastAPI()
    app.include_router(create_router(feed.queries))
    with serving(app) as url:
        nothing = {"p50": None, "p95": None, "p99": None, "count": 0}
        assert answer(f"{url}api/figures") == (200, {"latency_ms": nothing})
        fleet.stores.metrics.observe_all("position_latency_ms", [20.0] * 90 + [80.0] * 10)
        (status, body) = answer(f"{url}api/figures")
        assert (status, body["latency_ms"]) == (200, feed.queries.report()["latency_ms"])
        assert body["latency_ms"]["p50"] == pytest.approx(20, rel=0.01)
        assert body["latency_ms"]["p99"] == pytest.approx(80, rel=0.01)


def test_a_store_that_cannot_be_read_makes_the_server_unhealthy(feed):
    feed.queries.close()
    app = FastAPI()
    app.include_router(create_router(feed.queries))
    with serving(app) as url:
        for path in (
            "healthz",
            "api/vehicles",
            "api/vehicles/van-1/account",
            "api/alerts",
            "api/figures",
        ):
            assert answer(url + path) == (503, {"status": "unavailable", "reason": "store"})


def test_without_tiles_the_browser_is_told_to_load_nothing_foreign():
    assert not re.search(r"https?:|\*", content_security_policy(tiles=False))
    assert content_security_policy(tiles=True).count("https:") == 1
