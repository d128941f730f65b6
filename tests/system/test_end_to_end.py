"""Every trace through the real agent, a network that is cut for a minute, and the real cloud.

One run of the demo carries all traces, a vehicle each, so that the minute without a
network is waited for once. What was created is told by the agents, what was stored by
the cloud's history; the two are compared identity by identity.
"""

import json
from collections import Counter
from datetime import datetime

import pytest

from tests.conftest import ROOT, TRACES

SPEED = 20
DURATION_S = 110
OUTAGE_START_S = 10
OUTAGE_LENGTH_S = 60

COMMITTED = ROOT / "simulator" / "traces" / "default.nmea"
RECORDED = [
    "dev01_munich_drive.nmea",
    "dev02_mtv_f9k_rtk_drive_a.nmea",
    "dev03_reno_tahoe_garmin_drive_a.nmea",
    "dev04_munich_gga_gsa_only.nmea",
    "dev05_quectel_eg25g_nofix.log",
    "dev06_gp320fw_week_rollover.log",
    "dev07_unicore_um621_losefix.log",
]
ALL_TRACES = [COMMITTED.name, *RECORDED]

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, run_command):
    """The finished run: its report, and a function that lists a vehicle's history."""
    folder = tmp_path_factory.mktemp("demo")
    paths = [COMMITTED, *(TRACES / "nmea" / name for name in RECORDED)]
    paths = [path for path in paths if path.exists()]
    words = ["simulator", "demo", "--no-browser", "--no-tiles", "--port", 0]
    for path in paths:
        words += ["--trace", path]
    words += ["--speed", SPEED, "--for", f"{DURATION_S}s"]
    words += ["--outage", f"{OUTAGE_START_S}s:{OUTAGE_LENGTH_S}s"]
    words += ["--data", folder / "data", "--report", folder / "report.json"]
    done = run_command(*words, check=False, timeout_s=400)
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    report = json.loads((folder / "report.json").read_text())
    vehicles = dict(zip((path.name for path in paths), report["vehicles"], strict=True))

    def history(vehicle_id):
        lines = run_command(
            "cloud", "history", "--data", folder / "data" / "cloud", "--vehicle", vehicle_id
        ).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def gaps(vehicle_id):
        """What the operator's report says, and its exit code."""
        words = ("--data", folder / "data" / "cloud", "--vehicle", vehicle_id, "--json")
        told = run_command("cloud", "gaps", *words, check=False)
        return json.loads(told.stdout), told.returncode

    return {
        "report": report,
        "vehicles": vehicles,
        "history": history,
        "gaps": gaps,
        "exit": done.returncode,
    }


def vehicle_of(demo, name):
    if name not in demo["vehicles"]:
        pytest.skip(f"{name} is not on this machine")
    return demo["vehicles"][name]


def delay_s(row):
    taken, received = (datetime.fromisoformat(row[key]) for key in ("timestamp", "received_at"))
    return (received - taken).total_seconds()


@pytest.mark.parametrize("name", ALL_TRACES)
def test_no_sample_of_a_trace_is_lost(demo, name):
    vehicle = vehicle_of(demo, name)
    assert vehicle["fixes_replayed"] > 0
    assert vehicle["samples_created"] >= DURATION_S / 2, "the agent hardly sampled"
    assert vehicle["samples_lost"] == 0
    assert vehicle["samples_stored"] == vehicle["samples_created"]
    assert vehicle["samples_acknowledged"] == vehicle["samples_created"]


@pytest.mark.parametrize("name", ALL_TRACES)
def test_every_created_identity_is_in_the_history(demo, name):
    vehicle = vehicle_of(demo, name)
    stored = Counter(
        (row["run_id"], row["sequence"]) for row in demo["history"](vehicle["vehicle_id"])
    )
    created = {(vehicle["run_id"], number) for number in range(1, vehicle["last_sequence"] + 1)}
    assert set(stored) == created
    assert max(stored.values()) == 1


def test_the_operators_report_finds_everything_there(demo):
    for vehicle in demo["vehicles"].values():
        told, code = demo["gaps"](vehicle["vehicle_id"])
        assert (code, told["missing"], told["unexplained"]) == (0, 0, 0)
        assert told["received"] == vehicle["samples_stored"] + vehicle["events_stored"]
        (run,) = told["runs"]
        assert (run["run_id"], run["state"]) == (vehicle["run_id"], "offline")
        assert run["last_sequence"] == vehicle["last_sequence"]


def test_samples_of_the_outage_arrived_late_and_live_ones_did_not_wait_for_them(demo):
    latency_ms = demo["report"]["latency_ms"]
    assert latency_ms["p50"] < 5_000, "the latest position lagged behind"
    for vehicle in demo["vehicles"].values():
        late = [row for row in demo["history"](vehicle["vehicle_id"]) if delay_s(row) > 20]
        assert len(late) > 20, f"{vehicle['vehicle_id']} felt no outage"


def test_the_moving_vehicles_made_a_trip(demo):
    moving = demo["vehicles"][COMMITTED.name]
    assert moving["seconds_in_mode"]["in_trip"] > 0
    assert "trip_started" in {event["event_type"] for event in moving["events"]}


def test_the_archive_holds_what_was_stored(demo):
    stored = sum(vehicle["samples_stored"] for vehicle in demo["vehicles"].values())
    assert demo["report"]["archive_rows"] >= stored


def test_the_demo_says_by_its_exit_code_that_nothing_was_lost(demo):
    assert demo["exit"] == 0
