import re
import time
from datetime import timedelta, timezone
from urllib.parse import urlsplit

import pytest

from tests.fakes.live_map import (
    DESKTOP,
    PHONE,
    StoredFleet,
    chromium,
    live_map,
    square,
)

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.xdist_group("browser")]

HOSTILE = '<img src=x onerror="window.hacked=1">"\'`${window.hacked=2}</script>{{hacked}}'
SVG_TILE = '<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256"/>'


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def fleet(tmp_path):
    fleet = StoredFleet(
        tmp_path,
        {"van-1": "Van 1", "van-2": "Van 2"},
        [
            square("Frankfurt", "operating_area", 50.11, 8.68, 0.05),
            square("Depot", "geofence", 50.11, 8.68, 0.004),
        ],
    )
    yield fleet
    fleet.close()


class Visit:
    """One page with a record of everything that it asked for and complained about."""

    def __init__(self, browser, url, tiles=None, **options):
        self.context = browser.new_context(**{"viewport": DESKTOP} | options)
        self.page = self.context.new_page()
        self.requests, self.complaints, self.messages = [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        if tiles:
            self.page.route(re.compile("^https://"), tiles)
        self.page.goto(url)
        self.page.wait_for_selector(".live.good")

    def _listen(self, socket):
        self.requests.append(socket.url)
        socket.on("framereceived", lambda frame: self.messages.append(frame))  # noqa: PLW0108  Playwright marks it

    def _console(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def foreign(self):
        return [
            url
            for url in self.requests
            if not url.startswith("data:") and urlsplit(url).hostname != "127.0.0.1"
        ]

    def where(self, vehicle_id):
        """Centre of a vehicle's marker, in pixels."""
        box = self.page.locator(f".fleet-marker[data-vehicle='{vehicle_id}']").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def until(self, condition, what):
        """Let the page go on until ``condition()`` is true."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what
            self.page.wait_for_timeout(50)

    def at_rest(self, vehicle_id):
        """``where`` the marker is once it stays there for a while."""
        places = [None]

        def rests():
            self.page.wait_for_timeout(300)
            places.append(self.where(vehicle_id))
            return places[-1] == places[-2]

        self.until(rests, f"the marker of {vehicle_id} never came to rest")
        return places[-1]


@pytest.fixture
def visit(browser):
    visits = []

    def open_page(url, **options):
        visits.append(Visit(browser, url, **options))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()


def test_the_marker_moves_and_an_alert_comes_and_goes_without_a_reload(fleet, visit, tmp_path):
    fleet.report("van-1", 50.10, 8.66, speed=30, heading=90, percent=41)
    fleet.report("van-2", 50.12, 8.70)
    fleet.status("van-1", "in_trip", backlog=0)
    with live_map(tmp_path) as url:
        seen = visit(url, reduced_motion="reduce")
        page = seen.page
        page.wait_for_selector(".fleet-marker[data-vehicle='van-1']")
        page.evaluate("window.same = true")
        before = seen.at_rest("van-1")
        fleet.report("van-1", 50.11, 8.68, speed=52, heading=45, percent=40)
        page.wait_for_function("document.querySelector('.row .speed').innerText.includes('52')")
        after = seen.at_rest("van-1")
        assert after[0] > before[0] + 20
        assert after[1] < before[1] - 20
        assert "40 %" in seen.text(".row[data-vehicle='van-1'] .battery")

        fleet.status("van-1", "saver", backlog=1234, interval=60)
        page.wait_for_selector(".row[data-vehicle='van-1'].saver")
        assert seen.text(".row[data-vehicle='van-1'] .doing") == "Saver · 1,234 waiting"
        page.wait_for_selector(".fleet-marker.saver[data-vehicle='van-1']")
        fleet.status("van-1", "saver", online=False)
        page.wait_for_selector(".fleet-marker.offline[data-vehicle='van-1']")

        assert seen.text(".alerts .none") == "Nothing needs attention."
        fleet.alert("van-1", detail="11 %")
        page.wait_for_selector(".alert-row")
        assert "Battery low" in seen.text(".alert-row")
        assert "Van 1 · 11 %" in seen.text(".alert-row")
        seen.until(lambda: page.title() == "(1) Milepost", "the title counts the alert")
        page.wait_for_selector(".fleet-marker.alert[data-vehicle='van-1']")
        fleet.alert("van-1", resolved=True)
        page.wait_for_selector(".alert-row", state="detached")
        page.wait_for_selector(".fleet-marker.alert", state="detached")
        seen.until(lambda: page.title() == "Milepost", "the title counts no alert")

        fleet.report("van-3", 50.13, 8.65)
        page.wait_for_selector(".fleet-marker[data-vehicle='van-3']")
        assert page.evaluate("window.same")
        assert seen.complaints == []
        assert seen.foreign() == []


def test_the_selected_vehicle_shows_its_account(fleet, visit, tmp_path):
    fleet.report("van-1", 50.10, 8.66)
    fleet.sequence += 3
    fleet.report("van-1", 50.11, 8.67)
    with live_map(tmp_path) as url:
        seen = visit(url)
        seen.page.wait_for_selector(".fleet-marker[data-vehicle='van-1']")
        seen.page.locator(".row[data-vehicle='van-1']").click()
        seen.page.wait_for_function(
            "document.querySelector('.details').innerText.includes('3: 3 unexplained')"
        )
        assert "2, 0 of them late, 0 more than once" in seen.text(".details")
        assert seen.complaints == []


def test_with_tiles_off_nothing_leaves_localhost_and_only_changes_are_sent(fleet, visit, tmp_path):
    for number in range(1, 31):
        fleet.report(f"van-{number}", 50.1 + number / 1000, 8.66)
        fleet.status(f"van-{number}", "normal", interval=1)
    with live_map(tmp_path) as url:
        seen = visit(url)
        page = seen.page
        page.wait_for_selector(".fleet-marker >> nth=29")
        page.mouse.move(800, 400)
        for _ in range(3):
            page.mouse.wheel(0, -600)
            page.wait_for_timeout(300)
        page.locator(".row >> nth=3").click()
        page.locator(".leaflet-control-zoom-out").click()
        page.wait_for_timeout(1200)
        seen.messages.clear()
        fleet.report("van-7", 50.2, 8.8)

        def pushed_messages():
            return [m for m in seen.messages if "run_javascript" in str(m)]

        seen.until(pushed_messages, "the change is pushed")
        page.wait_for_timeout(1500)  # time for what must not come
        pushed = pushed_messages()
        assert all("van-7" in str(m) for m in pushed)
        assert not any("van-8" in str(m) for m in pushed)
        assert sum(len(m) for m in pushed) < 1_000
        assert seen.requests
        assert seen.foreign() == []
        assert seen.complaints == []
        policy = page.evaluate(
            "fetch(location).then(r => r.headers.get('Content-Security-Policy'))"
        )
        assert "img-src 'self' data:;" in policy


def test_names_and_details_from_outside_are_shown_as_text(visit, tmp_path):
    fleet = StoredFleet(
        tmp_path, {"van-1": HOSTILE}, [square(HOSTILE, "geofence", 50.11, 8.68, 0.01)]
    )
    fleet.report("van-1", 50.11, 8.68)
    fleet.alert("van-1", detail=HOSTILE)
    fleet.close()
    with live_map(tmp_path) as url:
        seen = visit(url)
        page = seen.page
        page.wait_for_selector(".fleet-marker.alert")
        page.locator(".row").click()
        page.wait_for_selector(".details")
        for selector in (".row .who", ".fleet-marker .name", ".fleet-area"):
            assert page.locator(selector).text_content() == HOSTILE
        assert HOSTILE in page.locator(".alert-row small").text_content()
        assert page.locator(".fleet img").count() == 0
        assert page.evaluate("window.hacked") is None
        assert seen.complaints == []


def test_a_phone_never_scrolls_sideways_and_reaches_the_whole_list(fleet, visit, tmp_path):
    for number in range(1, 26):
        fleet.report(f"van-{number}", 50.1 + number / 1000, 8.66)
    fleet.alert("van-3", "outside_operating_area", detail="a long explanation " * 5)
    with live_map(tmp_path) as url:
        seen = visit(url, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
        page = seen.page
        page.wait_for_selector(".fleet-marker >> nth=24")
        for height in ("small", "large"):
            wide = page.evaluate(
                "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > innerWidth"
                " && getComputedStyle(e).overflowX !== 'hidden'"
                " && !e.closest('.leaflet-container')).map(e => e.className)"
            )
            assert wide == [], height
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            page.locator(".grip").tap()
        page.locator(".grip").tap()
        last = page.locator(".row >> nth=24")
        last.scroll_into_view_if_needed()
        last.tap()
        page.wait_for_selector(".fleet-marker.selected")
        x, y = seen.at_rest(last.get_attribute("data-vehicle"))
        assert 0 < x < 390
        assert 0 < y < 422
        assert page.locator(".row >> nth=0").bounding_box()["height"] >= 44
        assert seen.complaints == []


def test_choosing_a_vehicle_centres_and_follows_it_until_the_map_is_dragged(fleet, visit, tmp_path):
    fleet.report("van-1", 50.10, 8.66)
    fleet.report("van-2", 50.12, 8.70)
    with live_map(tmp_path) as url:
        seen = visit(url, reduced_motion="reduce")
        page = seen.page
        page.locator(".row[data-vehicle='van-2']").click()
        page.wait_for_selector(".fleet-marker.selected[data-vehicle='van-2']")
        area = page.locator(".fleet-canvas").bounding_box()
        middle = area["x"] + area["width"] / 2, area["y"] + area["height"] / 2
        assert seen.at_rest("van-2") == pytest.approx(middle, abs=3)
        fleet.report("van-2", 50.1205, 8.7005, speed=77)
        page.wait_for_function("document.body.innerText.includes('77')")
        assert seen.at_rest("van-2") == pytest.approx(middle, abs=3)
        page.mouse.move(middle[0] + 200, middle[1] + 100)
        page.mouse.down()
        page.mouse.move(middle[0] + 100, middle[1], steps=8)
        page.mouse.up()
        dragged = seen.at_rest("van-2")
        assert dragged != pytest.approx(middle, abs=30)
        fleet.report("van-2", 50.12051, 8.70051, speed=66)
        page.wait_for_function("document.body.innerText.includes('66')")
        assert seen.at_rest("van-2") == pytest.approx(dragged, abs=5)
        assert "50.12051° N, 8.70051° E" in seen.text(".details")
        page.locator(".fleet-fit").click()
        page.wait_for_selector(".fleet-marker.selected", state="detached")


def test_a_vehicle_that_leaves_the_view_is_kept_in_it_until_somebody_moves_the_map(
    fleet, visit, tmp_path
):
    fleet.report("van-1", 50.11, 8.68)
    with live_map(tmp_path) as url:
        seen = visit(url, reduced_motion="reduce")
        page = seen.page
        page.wait_for_selector(".fleet-marker")
        fleet.report("van-1", 50.6, 8.68, speed=71)
        page.wait_for_function("document.body.innerText.includes('71')")
        x, y = seen.at_rest("van-1")
        assert 364 < x < 1280
        assert 0 < y < 800
        page.mouse.move(900, 500)
        page.mouse.wheel(0, -300)
        seen.until(lambda: seen.where("van-1") != (x, y), "the wheel moves the map")
        seen.at_rest("van-1")
        fleet.report("van-1", 52.0, 8.68, speed=72)
        page.wait_for_function("document.body.innerText.includes('72')")
        assert seen.at_rest("van-1")[1] < 0
        page.locator(".fleet-fit").click()
        seen.until(lambda: 0 < seen.where("van-1")[1] < 800, "it is in view again")


def test_an_empty_fleet_says_what_to_do_next_and_shows_the_first_vehicle_by_itself(
    fleet, visit, tmp_path
):
    with live_map(tmp_path) as url:
        seen = visit(url)
        assert "No vehicle has reported yet" in seen.text(".empty")
        assert "milepost-cloud certs issue" in seen.text(".empty")
        assert seen.page.locator(".fleet-area").all_inner_texts() == ["Frankfurt", "Depot"]
        fleet.report("van-1", 50.11, 8.68)
        seen.page.wait_for_selector(".fleet-marker[data-vehicle='van-1']")
        seen.page.wait_for_selector(".empty", state="detached")
        assert seen.complaints == []


def test_a_lost_connection_is_said_and_its_return_too(fleet, visit, tmp_path):
    fleet.report("van-1", 50.11, 8.68)
    with live_map(tmp_path) as url:
        seen = visit(url)
        seen.page.wait_for_selector(".fleet-marker")
        seen.context.set_offline(True)
        seen.page.evaluate("window.socket.io.engine.close()")
        seen.page.wait_for_selector(".live.bad")
        assert "No connection to the server" in seen.text(".notice[role=alert]")
        fleet.report("van-1", 50.12, 8.68, speed=88)
        seen.context.set_offline(False)
        seen.page.wait_for_selector(".live.good")
        seen.page.wait_for_function("document.body.innerText.includes('88')")
        seen.page.wait_for_selector(".notice", state="detached")


def test_a_page_finds_its_way_back_when_the_server_is_started_again(
    fleet, visit, tmp_path, free_port
):
    fleet.report("van-1", 50.11, 8.68, speed=31)
    port = str(free_port())
    with live_map(tmp_path, "--port", port) as url:
        seen = visit(url)
        seen.page.wait_for_selector(".fleet-marker")
    seen.page.wait_for_selector(".live.bad")
    fleet.report("van-1", 50.12, 8.68, speed=89)
    with live_map(tmp_path, "--port", port):
        seen.page.wait_for_function("document.body.innerText.includes('89')")
        seen.page.wait_for_selector(".live.good")


def test_times_are_the_viewers_own(fleet, visit, tmp_path):
    at = fleet.clock() - timedelta(seconds=90)
    fleet.report("van-1", 50.11, 8.68, at=at)
    with live_map(tmp_path) as url:
        seen = visit(url, timezone_id="Asia/Tokyo", locale="de-DE")
        seen.page.locator(".row").click()
        there = at.astimezone(timezone(timedelta(hours=9)))
        assert f"{there:%H:%M:%S} (1 min ago)" in seen.text(".details")
        seen.page.wait_for_selector(".row.stale")
        seen.page.wait_for_selector(".fleet-marker.stale")


def test_a_filter_by_mode_and_a_search_find_vehicles(fleet, visit, tmp_path):
    for number in range(1, 13):
        fleet.report(f"van-{number}", 50.1 + number / 1000, 8.66)
        fleet.status(f"van-{number}", "idle" if number > 9 else "normal")
    with live_map(tmp_path) as url:
        seen = visit(url)
        page = seen.page
        page.wait_for_selector(".row >> nth=11")

        def shows(selector, count):
            seen.until(lambda: page.locator(selector).count() == count, f"{count} {selector}")

        page.get_by_role("button", name=re.compile("^Idle 3")).click()
        shows(".row", 3)
        shows(".fleet-marker.faded", 9)
        page.get_by_role("searchbox", name="Find a vehicle").fill("van-11")
        shows(".row", 1)
        page.get_by_role("searchbox", name="Find a vehicle").fill("lorry")
        page.get_by_role("button", name="Show all", exact=True).click()
        shows(".row", 12)


def test_everything_that_can_be_operated_has_a_name(fleet, visit, tmp_path):
    fleet.report("van-1", 50.11, 8.68, speed=33)
    fleet.alert("van-1", detail="11 %")
    with live_map(tmp_path) as url:
        seen = visit(url)
        page = seen.page
        page.wait_for_selector(".fleet-marker.alert")
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, a, input, [role=button], [tabindex]')]"
            ".filter(e => e.offsetParent && !(e.ariaLabel || e.title || e.innerText.trim()))"
            ".map(e => e.outerHTML)"
        )
        assert [html for html in nameless if "leaflet-container" not in html] == []
        label = page.locator(".fleet-marker").get_attribute("aria-label")
        assert re.match(r"Van 1, no status, 33 km/h, battery 70 %, fix (now|\d+ s ago)", label)
        page.locator(".fleet-marker").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".row[aria-expanded='true']")
        assert page.locator("html").get_attribute("lang") == "en-US"


def test_tiles_are_shown_when_they_come_and_the_grid_when_they_do_not(fleet, visit, tmp_path):
    fleet.report("van-1", 50.11, 8.68)
    with live_map(tmp_path, "--tiles") as url:
        asked = []

        def serve(route):
            asked.append(route.request)
            route.fulfill(body=SVG_TILE, content_type="image/svg+xml")

        first = visit(url, tiles=serve)
        first.page.wait_for_selector(".fleet-map.has-tiles")
        assert {urlsplit(r.url).hostname for r in asked} == {"tile.openstreetmap.org"}
        assert asked[0].headers["referer"].startswith("http://127.0.0.1:")
        assert "OpenStreetMap" in first.text(".leaflet-control-attribution")
        assert first.complaints == []

        second = visit(url, tiles=lambda route: route.abort())
        second.page.wait_for_selector(".leaflet-tile-pane .fleet-tiles", state="detached")
        assert second.page.locator(".fleet-map.has-tiles").count() == 0
        assert second.page.locator(".fleet-grid").is_visible()
