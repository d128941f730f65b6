"""``milepost-cloud serve`` as a process: crash, stop, and what gets in its way."""

import json
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from cloud.stores.queries import Queries
from tests.conftest import program
from tests.fakes.one_machine import (
    CloudProcess,
    Vehicle,
    milepost_cloud,
    running_cloud,
    sample_json,
    status_json,
    wait_until,
)


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def issue(data_dir, vehicle_id):
    out = data_dir.parent / vehicle_id
    done = milepost_cloud("certs", "issue", vehicle_id, "--data", data_dir, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def stored(data_dir, vehicle_id="van-1"):
    queries = Queries.open(data_dir)
    try:
        return [row["sequence"] for row in queries.history(vehicle_id)]
    finally:
        queries.close()


def ask(url):
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310  a local address
        return answer.status, answer.read()


def test_a_crash_right_after_the_acknowledgements_loses_nothing(data_dir):
    folder = issue(data_dir, "van-1")
    with running_cloud(data_dir) as cloud:
        van = Vehicle(cloud.port, folder, "van-1")
        assert van.connect()
        sequence_of = {}
        for sequence in range(1, 1501):
            mid = van.publish("telemetry/van-1", sample_json(sequence=sequence))
            sequence_of[mid] = sequence
        wait_until(lambda: len(van.acked) >= 700, "700 acknowledgements")
        cloud.kill()
        van.close()
    acknowledged = {sequence_of[mid] for mid in van.acked}
    assert len(acknowledged) >= 700
    with running_cloud(data_dir) as again:
        wait_until(lambda: acknowledged <= set(stored(data_dir)), "every acknowledged message")
        assert again.stop() == 0
    assert not acknowledged - set(stored(data_dir))


def test_the_whole_way_of_a_message_and_an_orderly_stop(data_dir):
    folder = issue(data_dir, "van-1")
    with running_cloud(data_dir) as cloud:
        assert ask(f"{cloud.url}healthz")[0] == 200
        with Vehicle(cloud.port, folder, "van-1") as van:
            assert van.connect()
            van.publish_acked("status/van-1", status_json(mode="in_trip"), retain=True)
            for sequence in range(1, 51):
                van.publish("telemetry/van-1", sample_json(sequence=sequence))
                time.sleep(0.002)  # of two samples of one millisecond the first is the latest
            wait_until(lambda: len(van.acked) == 51, "the acknowledgements")
            wait_until(lambda: position(cloud) == 50.11 + 50 * 1e-5, "the last position")
        listed = milepost_cloud("vehicles", "--data", data_dir, "--json")
        (vehicle,) = json.loads(listed.stdout)
        assert vehicle["state"] == "online"
        assert vehicle["mode"] == "in_trip"
        assert cloud.stop(signal.SIGINT) == 0
    assert not (data_dir / "serve.json").exists()
    assert "Traceback" not in cloud.log.read_text()
    report = json.loads(milepost_cloud("report", "--data", data_dir, "--json").stdout)
    (account,) = report["vehicles"]
    assert account["samples_stored"] == 50
    assert account["samples_duplicated"] == 0
    assert account["missing"] == {"0a1b2c3d": 0}
    assert account["bytes_received"] > 50 * 150
    assert report["archive_rows"] == 50
    assert report["latency_ms"]["count"] >= 1
    assert report["dead_letters"] == 0
    history = milepost_cloud("history", "--data", data_dir, "--vehicle", "van-1")
    assert [json.loads(line)["sequence"] for line in history.stdout.splitlines()] == [*range(1, 51)]


def position(cloud):
    _, body = ask(f"{cloud.url}api/vehicles")
    vehicles = json.loads(body)["vehicles"]
    return vehicles and (vehicles[0]["position"] or {}).get("lat")


def test_what_breaks_the_contract_is_a_dead_letter_with_its_reason(data_dir):
    folder = issue(data_dir, "van-1")
    with running_cloud(data_dir) as cloud:
        with Vehicle(cloud.port, folder, "van-1") as van:
            assert van.connect()
            van.publish_acked("telemetry/van-1", b"not json")
            broken = sample_json(location={"lat": 191, "lon": 8})
            van.publish_acked("telemetry/van-1", broken)
            van.publish_acked("telemetry/van-1", sample_json("van-2"))
            van.publish_acked("telemetry/van-1/batch", b"no batch")
            van.publish_acked("status/van-1", status_json("van-2"))
            van.publish_acked("status/van-1", b'{"vehicle_id": "van-1", "state": "asleep"}')
            van.publish_acked("telemetry/van-1", sample_json(sequence=2))
            wait_until(lambda: stored(data_dir) == [2], "the good sample")
        assert cloud.stop() == 0
    done = milepost_cloud("dead-letters", "--data", data_dir, "--json")
    letters = json.loads(done.stdout)
    found = {(letter["topic"], letter["field"]) for letter in letters}
    assert ("telemetry/van-1", "location.lat") in found
    assert ("telemetry/van-1", "vehicle_id") in found
    assert ("telemetry/van-1", "milepost_telemetry") in found
    assert ("telemetry/van-1/batch", "batch") in found
    assert ("status/van-1", "milepost_status_refused") in found
    assert any(
        topic == "status/van-1" and field != "milepost_status_refused" for topic, field in found
    )
    assert len(letters) == 6
    assert all(letter["reason"] for letter in letters)
    plain = milepost_cloud("dead-letters", "--data", data_dir)
    assert "location.lat" in plain.stdout
    vehicles = json.loads(milepost_cloud("vehicles", "--data", data_dir, "--json").stdout)
    assert "van-2" not in [vehicle["vehicle_id"] for vehicle in vehicles]


@pytest.mark.parametrize("option", ["--mqtt-port", "--http-port"])
def test_a_port_in_use_is_an_error_that_says_what_to_do(data_dir, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"--mqtt-port": 0, "--http-port": 0, option: port}
        done = milepost_cloud(
            *("serve", "--data", data_dir, "--no-browser"),
            *(part for pair in ports.items() for part in pair),
        )
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert option in done.stderr
    assert "Traceback" not in done.stderr
    assert not (data_dir / "serve.json").exists()


def test_files_go_to_the_port_after_mqtts_when_none_is_named(data_dir, free_port):
    port = free_port()
    with socket.create_server(("127.0.0.1", port + 1)):
        done = milepost_cloud(
            *("serve", "--data", data_dir, "--no-browser", "--http-port", 0, "--mqtt-port", port)
        )
    assert done.returncode == 2
    assert f"cannot listen for files on 127.0.0.1:{port + 1}" in done.stderr
    assert "--files-port" in done.stderr


def test_a_second_server_on_the_same_data_is_refused(data_dir):
    with running_cloud(data_dir) as cloud:
        done = milepost_cloud(
            *("serve", "--data", data_dir, "--mqtt-port", 0, "--http-port", 0, "--no-browser")
        )
        assert done.returncode == 2
        assert str(cloud.process.pid) in done.stderr
        assert json.loads((data_dir / "serve.json").read_text())["pid"] == cloud.process.pid
        assert cloud.stop() == 0


def test_opening_the_map_to_the_network_is_said(data_dir):
    with running_cloud(data_dir, "--map-host", "0.0.0.0") as cloud:
        assert cloud.url.startswith("http://localhost:")
        assert ask(f"{cloud.url}healthz")[0] == 200
        assert cloud.stop() == 0
    assert "it has no login" in cloud.log.read_text()


def test_vehicles_may_come_from_the_network_and_the_map_stays_here(data_dir):
    with running_cloud(data_dir, "--host", "0.0.0.0") as cloud:
        assert cloud.url.startswith("http://127.0.0.1:")
        assert cloud.stop() == 0
    assert "it has no login" not in cloud.log.read_text()


def test_an_areas_file_that_is_broken_stops_the_start(data_dir, tmp_path):
    areas = tmp_path / "areas.geojson"
    areas.write_text("{")
    done = milepost_cloud("serve", "--data", data_dir, "--areas", areas, "--no-browser")
    assert done.returncode == 2
    assert str(areas) in done.stderr
    assert "Traceback" not in done.stderr


def test_being_told_to_stop_while_starting_ends_it(data_dir):
    cloud = CloudProcess(data_dir)
    try:
        wait_until((data_dir / "stream.db").exists, "the start")
        assert cloud.stop() in {0, -signal.SIGTERM}
    finally:
        if cloud.process.poll() is None:
            cloud.kill()
    assert not (data_dir / "serve.json").exists()


@pytest.mark.needs("mosquitto_pub")
def test_revoking_from_the_command_line_reaches_the_running_cloud(data_dir):
    folder = issue(data_dir, "van-1")

    def publish():
        return subprocess.run(
            [
                *(program("mosquitto_pub"), "-h", "localhost", "-p", str(cloud.port)),
                *("--cafile", folder / "ca.pem", "--cert", folder / "certificate.pem"),
                *("--key", folder / "key.pem", "-i", "van-1", "-q", "1"),
                *("-t", "telemetry/van-1", "-m", sample_json()),
            ],
            capture_output=True,
            timeout=30,
            check=False,
        ).returncode

    with running_cloud(data_dir) as cloud:
        assert publish() == 0
        done = milepost_cloud("certs", "revoke", "van-1", "--data", data_dir)
        assert done.returncode == 0
        wait_until(lambda: publish() != 0, "the refusal")
        assert cloud.stop() == 0


def test_the_position_is_stored_soon_after_the_sample_was_made(data_dir):
    folder = issue(data_dir, "van-1")
    with running_cloud(data_dir) as cloud:
        with Vehicle(cloud.port, folder, "van-1") as van:
            assert van.connect()
            for sequence in range(1, 21):
                van.publish_acked("telemetry/van-1", sample_json(sequence=sequence))
                time.sleep(0.02)
        assert cloud.stop() == 0
    report = json.loads(milepost_cloud("report", "--data", data_dir, "--json").stdout)
    latency = report["latency_ms"]
    # samples that reach the function together move the position once
    assert 1 <= latency["count"] <= 20
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]


def test_the_log_has_no_secrets_and_the_key_stays_where_it_is(data_dir):
    folder = issue(data_dir, "van-1")
    with running_cloud(data_dir) as cloud:
        assert cloud.stop() == 0
    assert "PRIVATE" not in cloud.log.read_text()
    assert Path(folder / "key.pem").stat().st_mode & 0o077 == 0


def test_the_server_s_certificate_says_the_names_that_vehicles_are_given(data_dir):
    issue(data_dir, "van-1")
    ca_file = data_dir / "pki/ca/certificate.pem"
    with running_cloud(data_dir, "--name", "telemetry.example.com", "--name", "10.0.2.2") as cloud:
        for name in ("telemetry.example.com", "10.0.2.2"):
            context = ssl.create_default_context(cafile=ca_file)
            with (
                socket.create_connection(("127.0.0.1", cloud.port), timeout=20) as raw,
                context.wrap_socket(raw, server_hostname=name) as connection,
            ):
                assert connection.getpeercert()
