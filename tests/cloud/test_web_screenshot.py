from datetime import timedelta

import pytest

from tests.fakes.live_map import StoredFleet, live_map, save_screenshot


@pytest.mark.needs("chromium")
@pytest.mark.xdist_group("browser")
def test_the_screenshot_for_the_documentation_is_a_picture(tmp_path):
    fleet = StoredFleet(tmp_path, {"van-1": "Van 1"})
    start = fleet.now - timedelta(minutes=2)
    fleet.reports(
        "van-1", [(start + timedelta(seconds=s), 50.1 + s * 1e-4, 8.66) for s in range(120)]
    )
    fleet.close()
    target = tmp_path / "img" / "live-map.png"
    with live_map(tmp_path) as url:
        save_screenshot(url, target, vehicles=1, select="van-1", dark=True)
    assert target.read_bytes()[:4] == b"\x89PNG"
    assert target.stat().st_size > 20_000
