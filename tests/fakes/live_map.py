"""A browser on the live map, its server, and a fleet stored through the real stores."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from playwright.sync_api import sync_playwright

from cloud.clock import milliseconds
from cloud.handlers import enrich, track_position
from cloud.ports import Alert, AlertKind, Condition
from cloud.stores.sqlite import SqliteStores
from contract import (
    Battery,
    Location,
    Mode,
    Motion,
    Sample,
    Status,
    TimeQuality,
    VehicleState,
)
from tests.conftest import ROOT, program
from tests.fakes.kinesis import lambda_event, selected

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@contextmanager
def live_map(data, *arguments):
    """Serve ``data`` in a process of its own; the page's URL."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    environment["PYTHONPATH"] = str(ROOT)
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("live_map_server.py")), data, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=data,
        env=environment,
    )
    try:
        url = server.stdout.readline().strip()
        assert url, "the live map's server did not start"
        yield url
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


@contextmanager
def serving(app):
    """Serve an ASGI application from a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), name="test server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)


def answer(url, method="GET"):
    """Status and JSON of a request."""
    request = urllib.request.Request(url, method=method)  # noqa: S310  loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310  loopback
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@contextmanager
def chromium():
    """Debian's Chromium, headless, with a home of its own that goes with it."""
    with (
        TemporaryDirectory(prefix="milepost-browser-", ignore_cleanup_errors=True) as home,
        sync_playwright() as playwright,
    ):
        folders = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), home)
        browser = playwright.chromium.launch(
            executable_path=program("chromium"), args=CHROMIUM_ARGS, env={**os.environ, **folders}
        )
        try:
            yield browser
        finally:
            browser.close()


def save_screenshot(url, path, *, viewport=DESKTOP, dark=False, select=None, vehicles=1):
    """Save what the live map at ``url`` shows once ``vehicles`` are on it.

    ``select``: a vehicle to click on first. Ready for the README: twice the resolution.
    """
    with chromium() as browser:
        page = browser.new_page(
            viewport=viewport,
            color_scheme="dark" if dark else "light",
            device_scale_factor=2,
            reduced_motion="reduce",
        )
        page.goto(url)
        page.wait_for_function(
            "n => document.querySelectorAll('.fleet-marker').length >= n", arg=vehicles
        )
        if select is not None:
            page.locator(f".row[data-vehicle='{select}']").click()
        page.wait_for_timeout(800)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)


class StoredFleet:
    """Puts what vehicles report through the real handlers into the stores of one machine."""

    def __init__(self, data, names=None, areas=()):
        data.mkdir(parents=True, exist_ok=True)
        if names:
            tables = (
                f'[vehicles."{k}"]\ntype = "electric_van"\nname = {json.dumps(v)}\n'
                for k, v in names.items()
            )
            (data / "fleet.toml").write_text("".join(tables), encoding="utf-8")
        if areas:
            collection = {"type": "FeatureCollection", "features": list(areas)}
            (data / "areas.geojson").write_text(json.dumps(collection), encoding="utf-8")
        self.stores = SqliteStores.open(data)
        self.handlers = [enrich.build(self.stores), track_position.build(self.stores)]
        self.now = datetime.now(UTC)  # noqa: TID251  ages are measured against the real clock
        self.sequence = 0

    def report(self, vehicle_id, lat, lon, *, at=None, **seen):
        """Store one sample, and move the vehicle there if it is the newest."""
        self.reports(vehicle_id, [(at or self.clock(), lat, lon)], **seen)

    def reports(self, vehicle_id, fixes, *, speed=30.0, heading=90.0, percent=70.0, charging=False):
        """Store many samples ``(time, lat, lon)``, the last one as the position."""
        records = []
        for at, lat, lon in fixes:
            self.sequence += 1
            sample = Sample(
                vehicle_id=vehicle_id,
                run_id="0a1b2c3d",
                sequence=self.sequence,
                timestamp=at,
                time_quality=TimeQuality.GPS,
                location=Location(lat=lat, lon=lon, accuracy=4.2),
                motion=Motion(speed_kmh=speed, heading=heading),
                battery=Battery(percent=percent, charging=charging),
            )
            row = sample.model_dump(mode="json", exclude_none=True)
            records.append(selected(row, received_at_ms=milliseconds(at)))
        for handle in self.handlers:
            response = handle(lambda_event(*records), None)
            assert not (response or {}).get("batchItemFailures")

    def status(
        self, vehicle_id, mode="in_trip", *, online=True, backlog=0, interval=0.2, at=None, **more
    ):
        """Store a status as the rule's action does."""
        status = Status(
            vehicle_id=vehicle_id,
            run_id="0a1b2c3d",
            state=VehicleState.ONLINE if online else VehicleState.OFFLINE,
            timestamp=at or self.clock(),
            time_quality=TimeQuality.GPS,
            software_version="0.1.0",
            mode=Mode(mode),
            sample_interval_s=interval,
            backlog_messages=backlog,
            **more,
        )
        self.stores.put_status(vehicle_id, status.model_dump(mode="json", exclude_none=True))

    def alert(self, vehicle_id, kind="battery_low", *, detail="", at=None, resolved=False):
        """Open an alert, or resolve it."""
        opened = at or self.now
        alert_id = f"{vehicle_id}-{kind}"
        assert self.stores.alerts.save(
            Condition(
                vehicle_id=vehicle_id,
                kind=AlertKind(kind),
                raised=not resolved,
                evaluated_at=self.clock() if resolved else opened,
                alert_id=None if resolved else alert_id,
            ),
            Alert(
                alert_id=alert_id,
                vehicle_id=vehicle_id,
                kind=AlertKind(kind),
                opened_at=opened,
                resolved_at=self.clock() if resolved else None,
                detail=detail,
            ),
        )

    def clock(self):
        """Now, each call later than the one before."""
        self.now = max(
            datetime.now(UTC),  # noqa: TID251  as above
            self.now + timedelta(milliseconds=1),
        )
        return self.now

    def close(self):
        """Close the stores."""
        self.stores.close()


def square(name, kind, lat, lon, half):
    """A GeoJSON polygon around a point, degrees."""
    wide = half / math.cos(math.radians(lat))
    ring = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    return {
        "type": "Feature",
        "properties": {"name": name, "kind": kind},
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[lon + x * wide, lat + y * half] for x, y in ring]],
        },
    }
