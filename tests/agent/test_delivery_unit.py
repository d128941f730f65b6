import json
import socket
import threading
import time

import pytest
from click.testing import CliRunner

from agent import control, outbox_cli
from agent.account import (
    flash_bytes_written,
    imbalance,
    process_age_s,
    read_last_run,
)
from agent.budgets import Budget
from agent.control import ask, tell
from agent.control_server import ControlServer
from agent.engine.rate import Rate
from agent.errors import ControlError, StateError
from agent.files import write_atomically
from agent.sd_notify import SystemdNotifier
from contract import Event, Mode, decode_status
from tests.fakes.delivering_vehicle import RealTime, make_delivery, make_sample
from tests.fakes.transport import FakeTransport

IDENTITY = {"ca_file": "/none", "certificate_file": "/none", "key_file": "/none"}
CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[broker]
host = "localhost"
ca_file = "ca.pem"
certificate_file = "certificate.pem"
key_file = "key.pem"
"""


@pytest.fixture
def start(tmp_path):
    made = []

    def make(transport, **more):
        delivery = make_delivery(tmp_path / "state", 1, IDENTITY, transport=transport, **more)
        made.append(delivery)
        delivery.start()
        return delivery

    yield make
    for delivery in made:
        delivery.stop(0)


def wait(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def statuses(transport):
    return [decode_status(one.payload) for one in transport.published if "status/" in one.topic]


def test_the_books_balance_at_any_moment_under_load(start):
    transport = FakeTransport()
    delivery = start(transport, flush_interval_s=0.05)
    clock = RealTime()
    stop = threading.Event()

    def disturb():
        while not stop.wait(0.03):
            for one in list(transport.waiting)[::2]:
                transport.ack(one)

    disturber = threading.Thread(target=disturb, name="disturber")
    disturber.start()
    try:
        for sequence in range(1, 400):
            delivery.record_sample(make_sample(sequence, clock, "0000000a"))
            assert imbalance(delivery.account()) == 0
            time.sleep(0.002)
    finally:
        stop.set()
        disturber.join()
    account = delivery.account()
    assert account["samples_created"] == 399
    assert account["samples_acknowledged"] > 0
    assert account["last_sequence"] == 399


def test_an_orderly_stop_drains_says_farewell_and_keeps_the_rest(start, tmp_path):
    transport = FakeTransport()
    delivery = start(transport)
    wait(lambda: delivery.publisher.connected)
    delivery.set_rate(Rate(Mode.IN_TRIP, 0.2, Mode.IN_TRIP))
    for sequence in range(1, 31):
        delivery.record_sample(make_sample(sequence, RealTime(), "0000000a"))
    started = time.monotonic()
    delivery.stop(0.3)
    assert time.monotonic() - started > 0.25
    delivery.stop(5)
    topic, payload = transport.farewell
    farewell = decode_status(payload)
    assert topic == "status/van-1"
    assert (farewell.state.value, farewell.mode) == ("offline", Mode.IN_TRIP)
    assert farewell.backlog_messages == 30
    left = list(outbox_cli.messages(tmp_path / "state" / "outbox.db"))
    assert [message["sequence"] for message in left] == list(range(1, 31))


def test_the_status_names_the_run_before_and_where_it_ended(start):
    first = start(FakeTransport(auto_ack=True), run_id="0000000a")
    for sequence in (1, 2, 3):
        first.record_sample(make_sample(sequence, RealTime(), "0000000a"))
    first.stop(5)
    transport = FakeTransport(auto_ack=True)
    start(transport, run_id="0000000b")
    wait(lambda: statuses(transport))
    previous = statuses(transport)[0].previous_run
    assert (previous.run_id, previous.last_sequence) == ("0000000a", 3)
    assert previous.unflushed_s == 1.0, "no last-run.json: nobody knows that it ended in order"


def test_the_run_before_is_known_from_last_run_json_when_the_outbox_is_gone(start, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "last-run.json").write_text(
        '{"run_id": "00000099", "last_sequence": 41}', encoding="utf-8"
    )
    transport = FakeTransport(auto_ack=True)
    start(transport)
    wait(lambda: statuses(transport))
    previous = statuses(transport)[0].previous_run
    assert (previous.run_id, previous.last_sequence) == ("00000099", 41)
    assert previous.unflushed_s == 0


def test_status_and_dropped_event_tell_what_was_given_up_of_which_run(start):
    transport = FakeTransport(auto_ack=False)
    delivery = start(transport, run_id="0000000a")
    for sequence in (5, 6):
        delivery.record_sample(make_sample(sequence, RealTime(), "0000000a"))
    wait(lambda: delivery.outbox.waiting() == 2)
    # what the publisher holds is its own; settled messages are passed over
    held = [m for lane in delivery.outbox._ledger._lanes.unwritten.values() for m in (lane,)]
    for message in held:
        delivery.outbox.refuse(message, "too large")
    (event,) = delivery.take_unreported_drops()
    assert event["run_id"] == "0000000a"
    assert (event["reason"], event["total_messages"]) == ("refused", len(held))
    status = decode_status(delivery._make_online_status())
    assert [total.model_dump(exclude_none=True) for total in status.drops] == [event]


def test_two_agents_cannot_use_one_state_directory(start):
    first = start(FakeTransport())
    with pytest.raises(StateError, match="another agent uses"):
        start(FakeTransport())
    first.stop(0)
    start(FakeTransport())


def test_stop_before_start_and_twice_is_safe(tmp_path):
    delivery = make_delivery(tmp_path / "state", 1, IDENTITY, transport=FakeTransport())
    delivery.stop(1)
    delivery.stop(1)


def test_progress_moves_on_while_offline(start):
    delivery = start(FakeTransport(auto_connect=False))
    before = delivery.progress()
    delivery.record_sample(make_sample(1, RealTime(), "0000000a"))
    wait(lambda: delivery.progress() > before)


def test_bad_last_run_files_are_taken_as_none(tmp_path):
    assert read_last_run(tmp_path) is None
    for text in ("", "[]", '{"run_id": "a"}', '{"run_id": "a", "last_sequence": null}'):
        (tmp_path / "last-run.json").write_text(text)
        assert read_last_run(tmp_path) is None


def test_written_state_replaces_the_old_in_one_step(tmp_path):
    path = tmp_path / "last-run.json"
    write_atomically(path, b'{"run_id": "a", "last_sequence": 1}')
    write_atomically(path, b'{"run_id": "b", "last_sequence": 2}')
    assert read_last_run(tmp_path) == ("b", 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["last-run.json"]


def test_the_process_knows_its_age_and_what_it_wrote():
    first = process_age_s()
    time.sleep(0.1)
    assert 0.05 < process_age_s() - first < 5
    written = flash_bytes_written()
    assert written is None or written >= 0


ACCOUNT = {
    "vehicle_id": "van-1",
    "run_id": "0000000a",
    "software_version": "1",
    "connected": True,
    "mode": "idle",
    "sample_interval_s": 10.0,
    "samples_created": 5,
    "samples_acknowledged": 4,
    "backlog_messages": 1,
    "dropped_messages": {"too_old": 2},
    "fixes_received": 9,
    "fixes_rejected": {"jump": 1},
    "bytes_published": 1234,
    "flash_bytes_written": 0,
    "uptime_s": 12.0,
    "can": [
        {
            "channel": "can0",
            "state": "error-active",
            "frames": 7,
            "decoded": 6,
            "dropped": 1,
            "kernel_dropped": 3,
            "controller_overflows": 0,
        }
    ],
}


@pytest.fixture
def short_dir(tmp_path_factory):
    """A unix socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("s")


def test_the_control_socket_gives_the_account_to_its_owner_alone(short_dir):
    server = ControlServer(short_dir / "run", lambda: ACCOUNT)
    server.start()
    try:
        assert server.path.stat().st_mode & 0o777 == 0o600
        assert server.path.parent.stat().st_mode & 0o777 == 0o700
        assert [ask(short_dir / "run") for _ in range(3)] == [ACCOUNT] * 3
    finally:
        server.stop()
    assert not server.path.exists()
    server.stop()
    with pytest.raises(ControlError, match="no agent runs"):
        ask(short_dir / "run")


def test_a_command_is_one_line_of_json_and_what_is_refused_says_what_to_do(short_dir):
    def double(request):
        if not isinstance(request.get("number"), int):
            raise StateError("number is missing", hint="Give a number.")
        return {"twice": 2 * request["number"]}

    server = ControlServer(short_dir / "run", lambda: ACCOUNT, {"double": double})
    server.start()
    try:
        assert tell(short_dir / "run", "double", number=21) == {"twice": 42}
        with pytest.raises(ControlError, match="number is missing\nGive a number"):
            tell(short_dir / "run", "double")
        with pytest.raises(ControlError, match="no such command: 'halve'\nThis agent knows: dou"):
            tell(short_dir / "run", "halve")
        for line, answer in (
            (b"[1]\n", "no line like"),
            (b"\xff{\n", "no line like"),
            (b"", "van-1"),
        ):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(server.path))
                client.sendall(line)  # and it does not say that nothing follows
                assert answer in client.recv(65536).decode()
    finally:
        server.stop()


def test_a_socket_left_by_a_killed_agent_is_replaced_and_a_living_one_is_not(short_dir):
    (short_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_dir / "run" / "agent.sock"))
    first = ControlServer(short_dir / "run", lambda: ACCOUNT)
    first.start()
    try:
        with pytest.raises(StateError, match="another agent answers"):
            ControlServer(short_dir / "run", dict).start()
        assert ask(short_dir / "run") == ACCOUNT
    finally:
        first.stop()


def test_an_account_that_fails_does_not_end_the_control_socket(short_dir):
    answers = [ValueError("once"), ACCOUNT]

    def account():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    server = ControlServer(short_dir / "run", account)
    server.start()
    try:
        with pytest.raises(ControlError, match="did not answer"):
            ask(short_dir / "run")
        assert ask(short_dir / "run") == ACCOUNT
    finally:
        server.stop()


def test_the_status_counts_the_positions_that_were_not_believed(start):
    delivery = start(FakeTransport(auto_ack=True), fixes_rejected=lambda: {"frozen": 2, "jump": 1})
    wait(lambda: statuses(delivery._transport))
    assert statuses(delivery._transport)[0].fixes_rejected == {"frozen": 2, "jump": 1}
    account = {
        **delivery.account(),
        "fixes_received": 9,
        "fixes_rejected": {"jump": 1, "frozen": 2},
    }
    assert "9 fixes, 3 rejected (2 frozen, 1 jump)" in control.readable(account)
    fault = {"code": "source:gps", "reason": "the receiver is silent", "lasts_s": 61.2}
    told = control.readable(account | {"faults": [fault]})
    assert "FAULT        gps for 61 s: the receiver is silent" in told


def test_the_status_counts_the_frames_that_a_bus_lost(start):
    delivery = start(FakeTransport(auto_ack=True), frames_dropped=lambda: {"can0": 4})
    wait(lambda: statuses(delivery._transport))
    assert statuses(delivery._transport)[0].frames_dropped == {"can0": 4}
    told = control.readable({**delivery.account(), "can": ACCOUNT["can"]})
    assert "CAN can0     error-active, 7 frames, 6 decoded, 4 lost" in told


def test_status_prints_for_people_and_as_json(short_dir):
    (short_dir / "agent.toml").write_text(CONFIG)
    arguments = ["--config", str(short_dir / "agent.toml")]
    none = CliRunner().invoke(control.status, arguments)
    assert none.exit_code == 1
    assert "no agent runs" in none.output
    assert "milepost-agent run" in none.output
    server = ControlServer(short_dir / "run", lambda: ACCOUNT)
    server.start()
    try:
        readable = CliRunner().invoke(control.status, arguments)
        as_json = CliRunner().invoke(control.status, [*arguments, "--json"])
    finally:
        server.stop()
    assert readable.exit_code == as_json.exit_code == 0
    assert "idle, a sample every 10 s" in readable.output
    assert "2 too_old" in readable.output
    assert json.loads(as_json.output) == ACCOUNT


def test_status_says_which_budget_keeps_the_rate_down(start):
    delivery = start(FakeTransport(auto_ack=True))
    delivery.set_rate(Rate(Mode.SAVER, 60.0, Mode.IN_TRIP, Budget.DATA))
    rate = {"mode": "saver", "wanted_mode": "in_trip", "limited_by": "data"}
    text = control.readable({**delivery.account(), **rate, "sample_interval_s": 60.0})
    assert "saver, a sample every 60 s; the data budget keeps it from in_trip" in text
    assert "data budget  0.00" in text
    wait(lambda: any(status.limited_by for status in statuses(delivery._transport)))
    last = statuses(delivery._transport)[-1]
    assert (last.mode, last.wanted_mode, last.limited_by) == (Mode.SAVER, Mode.IN_TRIP, "data")


def test_the_outbox_commands_work_while_the_agent_runs(start, tmp_path):
    (tmp_path / "agent.toml").write_text(CONFIG)
    arguments = ["--config", str(tmp_path / "agent.toml")]
    invoke = CliRunner().invoke
    missing = invoke(outbox_cli.outbox, ["status", *arguments])
    assert missing.exit_code == 1
    assert "there is no outbox" in missing.output
    delivery = start(FakeTransport(auto_connect=False), flush_interval_s=0.05)
    clock = RealTime()
    for sequence in (1, 2):
        delivery.record_sample(make_sample(sequence, clock, "0000000a"))
    delivery.record_event(
        Event(
            vehicle_id="van-1",
            run_id="0000000a",
            sequence=3,
            timestamp=clock.utc(),
            time_quality=clock.quality(),
            event_type="trip_started",
        )
    )
    wait(lambda: delivery.outbox.on_disk() == 3)
    found = json.loads(invoke(outbox_cli.outbox, ["status", *arguments, "--json"]).output)
    assert (found["samples"]["waiting"], found["events"]["waiting"]) == (2, 1)
    readable = invoke(outbox_cli.outbox, ["status", *arguments]).output
    assert "2 samples wait" in readable
    assert "flash budget: " in readable
    assert "% of 1000 MB: within" in readable
    peeked = invoke(outbox_cli.outbox, ["peek", *arguments, "--limit", "2"]).output.splitlines()
    assert [line.split()[1:] for line in peeked] == [
        ["0000000a/3", "trip_started"],
        ["0000000a/1", "sample"],
    ]
    exported = invoke(outbox_cli.outbox, ["export", *arguments]).output.splitlines()
    assert [json.loads(line)["sequence"] for line in exported] == [3, 1, 2]
    delivery.record_sample(make_sample(4, clock, "0000000a"))
    wait(lambda: delivery.outbox.on_disk() == 4)
    sound = invoke(outbox_cli.outbox, ["verify", *arguments, "--json"])
    assert sound.exit_code == 0
    assert json.loads(sound.output)["messages"] == {"samples": 3, "events": 1}
    delivery.stop()
    (outbox_file,) = tmp_path.rglob("outbox.db")
    with outbox_file.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    damaged = invoke(outbox_cli.outbox, ["verify", *arguments])
    assert damaged.exit_code == 1
    assert "NOT sound" in damaged.output


def test_a_wrong_config_is_a_usage_error(tmp_path):
    (tmp_path / "agent.toml").write_text(CONFIG.replace("van-1", "van 1"))
    arguments = ["--config", str(tmp_path / "agent.toml")]
    for command in ("status", "peek", "export", "verify"):
        result = CliRunner().invoke(outbox_cli.outbox, [command, *arguments])
        assert result.exit_code == 2
        assert "vehicle.id" in result.output


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path_factory):
    """A service manager's socket and the name that it gives."""
    name = str(tmp_path_factory.mktemp("n") / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        if request.param == "abstract":
            listening.bind("\0" + name)
            yield listening, "@" + name
        else:
            listening.bind(name)
            yield listening, name


def test_systemd_is_told(manager):
    listening, name = manager
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
    notifier.ready()
    notifier.watchdog()
    notifier.status("two\nlines")
    notifier.stopping()
    notifier.extend_timeout(1.5)
    heard = [listening.recv(4096).decode() for _ in range(5)]
    assert heard == [
        "READY=1",
        "WATCHDOG=1",
        "STATUS=two lines",
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]
    assert notifier.watchdog_interval_s == 15.0
    notifier.close()
    notifier.close()
    notifier.ready()


def test_without_systemd_nothing_happens(tmp_path):
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notifier = SystemdNotifier(environ)
        notifier.ready()
        notifier.close()
        assert notifier.watchdog_interval_s is None
    assert SystemdNotifier({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog_interval_s is None
    assert SystemdNotifier({"WATCHDOG_USEC": "soon"}).watchdog_interval_s is None
