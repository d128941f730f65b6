"""The live map in Chromium, fed by the real demo: what a developer sees after `make demo`."""

import json
import os
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.system.conftest import read_json

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.needs("chromium"),
    pytest.mark.xdist_group("browser"),
]

SPEED = 12
"""The committed drive takes about a minute then; its battery alert opens on the way."""

MARKER_PLACE = """() => {
    const marker = document.querySelector('.fleet-marker');
    if (!marker) return null;
    const box = marker.getBoundingClientRect();
    return [box.x, box.y];
}"""


@pytest.fixture
def live_demo(tmp_path, start_command, wait_for):
    """The demo on the committed drive: its URL, process and report."""
    data = tmp_path / "data"
    process = start_command(
        "simulator", "demo", "--no-browser", "--no-tiles", "--port", 0,
        "--speed", SPEED, "--data", data, "--report", tmp_path / "report.json",
        log="demo.log",
    )  # fmt: skip
    served = wait_for(
        lambda: read_json(data / "cloud" / "serve.json"), "the map's URL", process=process
    )
    return served["http_url"], process, tmp_path / "report.json"


TITLES = {"outside_operating_area": "Outside the operating area", "battery_low": "Battery low"}


def open_alerts(url):
    with urllib.request.urlopen(url.rstrip("/") + "/api/alerts", timeout=10) as response:  # noqa: S310  loopback
        return json.load(response)["alerts"]


def test_the_marker_moves_an_alert_appears_and_nothing_leaves_this_machine(
    live_demo, wait_for, tmp_path
):
    from tests.fakes.live_map import DESKTOP, chromium  # noqa: PLC0415  needs Chromium

    url, process, report = live_demo
    problems, requested = [], []
    with chromium() as browser:
        page = browser.new_page(viewport=DESKTOP, device_scale_factor=2)
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(url)
        page.wait_for_selector(".fleet-marker", timeout=60_000)
        first = page.evaluate(MARKER_PLACE)
        page.wait_for_function(
            f"before => {{ const now = ({MARKER_PLACE})(); "
            "return now && (Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]) > 20); }",
            arg=first,
            timeout=60_000,
        )
        page.wait_for_selector(".alert-row", timeout=120_000)
        shown = page.locator(".alert-row b").first.text_content()
        (opened,) = {alert["kind"] for alert in open_alerts(url)}
        assert shown == TITLES[opened]
        page.wait_for_timeout(1_500)
        picture = Path(os.environ.get("MILEPOST_SCREENSHOT", tmp_path / "live-map.png"))
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000
    assert not problems
    assert requested
    remote = [at for at in requested if not at.startswith(("data:", "blob:"))]
    assert {urlsplit(at).hostname for at in remote} <= {"127.0.0.1", "localhost"}

    process.terminate()
    assert process.wait(120) == 0, process.log.read_text()[-3000:]
    figures = json.loads(report.read_text())["vehicles"][0]
    assert figures["samples_created"] > 0
    assert figures["samples_lost"] == 0
