"""Doctor beside the real things: gpsd, a serial line, Mosquitto, file systems, no network."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import can
import pytest

from agent.doctor import (
    areas,
    broker,
    can_bus,
    can_listen,
    certificate,
    disk,
    gps,
    modules,
    subject,
)
from agent.doctor.areas import Area, look
from agent.doctor.finding import Severity
from agent.doctor.links import parse
from agent.doctor.mounts import find
from agent.doctor.subject import Running
from agent.outbox.schema import migrate
from tests.conftest import ROOT, program
from tests.fakes.gpsd_script import RealGpsd
from tests.fakes.mosquitto import Mosquitto
from tests.fakes.nmea import epoch, hhmmss, log, sentence
from tests.fakes.pki import Pki
from tests.fakes.serial_line import SerialLine, speaking

GROUP = "239.74.163.2"
DBC = """VERSION ""
BS_:
BU_: ECU
BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
"""

CONFIG = """
[vehicle]
id = "van-1"
[state]
dir = "state"
runtime_dir = "run"
[broker]
host = "{host}"
port = {port}
ca_file = "{identity.ca_file}"
certificate_file = "{identity.certificate_file}"
key_file = "{identity.key_file}"
{more}
"""


class Board:
    """A config on disk and what doctor finds there."""

    def __init__(self, folder):
        self.folder = folder
        self.pki = Pki(folder / "pki")
        self.file = folder / "agent.toml"
        (folder / "state").mkdir()
        self.configure()

    def configure(self, *, identity=None, host="localhost", port=1, more=""):
        identity = identity or self.pki.vehicle("van-1")
        self.file.write_text(CONFIG.format(identity=identity, host=host, port=port, more=more))

    def find(self, module):
        facts = module.gather(subject.examine(self.file))
        return {finding.code: finding for finding in module.check(facts)}

    def run(self, *arguments, before="", user=None):
        """The real command; ``before`` is done in a namespace of its own, as root of it."""
        command = [sys.executable, "-m", "agent", "doctor", "--config", str(self.file), *arguments]
        if before:
            script = f"{before}; exec {' '.join(command)}"
            command = [program("unshare"), "-rmn", "bash", "-ec", script]
        if user is not None:
            command = [program("setpriv"), "--reuid", user, "--clear-groups", *command]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
        )

    def codes(self, *arguments, **how):
        done = self.run("--json", *arguments, **how)
        assert done.stdout, done.stderr
        return [finding["code"] for finding in json.loads(done.stdout)["findings"]]


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def may_unshare():
    tool = program("unshare")
    return tool is not None and not subprocess.run([tool, "-rmn", "true"], check=False).returncode


unshared = pytest.mark.skipif(not may_unshare(), reason="no namespaces here (unshare -rmn)")


# --- GPS ----------------------------------------------------------------------------------------


def gpsd_at(port):
    return f'[gps]\nsource = "gpsd"\nport = {port}\n'


def now_sentences():
    """One epoch of the present second."""
    moment = time.gmtime()
    second = moment.tm_hour * 3600 + moment.tm_min * 60 + moment.tm_sec
    return log(epoch(second, date=time.strftime("%d%m%y", moment)))


def no_fix_sentences():
    moment = time.gmtime()
    second = moment.tm_hour * 3600 + moment.tm_min * 60 + moment.tm_sec
    void = sentence(f"GPGGA,{hhmmss(second)},,,,,0,00,,,M,,M,,")
    rmc = sentence(f"GPRMC,{hhmmss(second)},V,,,,,,,{time.strftime('%d%m%y', moment)},,,N")
    return log([rmc, void, sentence("GPGSA,A,1,,,,,,,,,,,,,,,")])


@contextlib.contextmanager
def fed(daemon, make):
    """A receiver that speaks once a second."""
    stopping = threading.Event()

    def speak():
        while not stopping.wait(0.5):
            daemon.feed(make())

    thread = threading.Thread(target=speak, name="receiver")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10)


@pytest.mark.needs("gpsd")
def test_a_receiver_with_a_fix_behind_the_real_gpsd_is_good(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    with RealGpsd(program("gpsd"), port) as daemon, fed(daemon, now_sentences):
        found = board.find(gps)
    assert set(found) <= {"gps-good", "gps-few-satellites"}
    assert "3D fix" in found["gps-good"].text
    assert daemon.device in found["gps-good"].text


@pytest.mark.needs("gpsd")
def test_a_receiver_without_a_fix_and_another_than_the_configs_are_told_apart(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    with RealGpsd(program("gpsd"), port) as daemon, fed(daemon, no_fix_sentences):
        assert set(board.find(gps)) == {"gps-no-fix"}
        board.configure(more=gpsd_at(port) + 'device = "/dev/ttyS77"\n')
        assert set(board.find(gps)) == {"gps-other-receiver"}


@pytest.mark.needs("gpsd")
def test_a_receiver_that_says_nothing_is_found_out(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    with RealGpsd(program("gpsd"), port):
        assert set(board.find(gps)) == {"gps-receiver-silent"}


@pytest.mark.needs("gpsd")
def test_a_receiver_that_tells_of_satellites_only_speaks_and_has_no_fix(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    in_view = log([sentence("GPGSV,1,1,02,05,40,083,30,12,17,308,25")])
    with RealGpsd(program("gpsd"), port) as daemon, fed(daemon, lambda: in_view):
        assert set(board.find(gps)) == {"gps-no-fix"}


@pytest.mark.needs("gpsd")
def test_of_a_list_of_receivers_the_second_one_is_found_in_use_and_the_first_missing(
    board, free_port
):
    port = free_port()
    with RealGpsd(program("gpsd"), port) as daemon, fed(daemon, now_sentences):
        board.configure(more=gpsd_at(port) + f'device = ["/dev/ttyS77", "{daemon.device}"]\n')
        found = board.find(gps)
    assert set(found) - {"gps-few-satellites"} == {"gps-receiver-missing", "gps-good"}
    assert "/dev/ttyS77" in found["gps-receiver-missing"].text
    assert f"{daemon.device} is in use" in found["gps-receiver-missing"].text
    assert f"{daemon.device} (in use)" in found["gps-good"].text


@pytest.mark.needs("gpsd")
def test_a_fix_that_gpsd_repeats_is_stale(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    with RealGpsd(program("gpsd"), port) as daemon:
        stuck = now_sentences()
        with fed(daemon, lambda: stuck):
            found = board.find(gps)
    assert set(found) == {"gps-stale-fix"}


@pytest.mark.needs("gpsd")
def test_a_gpsd_without_a_receiver_is_told_where_to_name_it(board, free_port):
    port = free_port()
    board.configure(more=gpsd_at(port))
    daemon = subprocess.Popen(
        [program("gpsd"), "-N", "-b", "-S", str(port), "-F", str(board.folder / "control")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        found = board.find(gps)
        told = board.run("--only", "gps")
    finally:
        daemon.terminate()
        daemon.wait(10)
    assert set(found) == {"gps-no-receiver"}
    assert "/etc/default/gpsd" in found["gps-no-receiver"].command
    assert "gpsd has no receiver" in told.stdout
    assert told.stderr == ""


def test_no_gpsd_and_a_server_that_is_none_are_told_apart(board, free_port):
    board.configure(more=gpsd_at(free_port()))
    assert set(board.find(gps)) == {"gps-gpsd-unreachable"}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            client, _ = listener.accept()
            client.close()  # the look at the port
            client, _ = listener.accept()
            client.sendall(b"220 mail.example ESMTP\r\n")
            client.recv(100)
            client.close()

        thread = threading.Thread(target=greet)
        thread.start()
        board.configure(more=gpsd_at(listener.getsockname()[1]))
        found = board.find(gps)
        thread.join(10)
    assert set(found) == {"gps-not-gpsd"}


def test_a_serial_receiver_is_listened_to_where_no_agent_runs(board):
    link = board.folder / "tty"
    board.configure(more=f'[gps]\nsource = "serial"\nserial = {{ device = "{link}" }}\n')
    assert set(board.find(gps)) == {"gps-port-absent"}
    with SerialLine(link) as line:
        assert set(board.find(gps)) == {"gps-port-silent"}
        with speaking(line, [log(epoch(43_200 + second)) for second in range(30)], 0.2):
            found = board.find(gps)
        assert set(found) == {"gps-port-good"}
        with speaking(line, [no_fix_sentences()], 0.2):
            assert set(board.find(gps)) == {"gps-port-no-fix"}


# --- CAN ----------------------------------------------------------------------------------------


def bus_on(port):
    return f"""
[[can]]
interface = "udp_multicast"
channel = "{GROUP}"
dbc = ["car.dbc"]
options = {{ hop_limit = 0, port = {port} }}
signals = {{ "battery.percent" = "Pack.Percent" }}
"""


def test_frames_are_heard_and_compared_with_the_map(board, free_port):
    port = free_port()
    (board.folder / "car.dbc").write_text(DBC)
    board.configure(more=bus_on(port))
    assert set(board.find(can_bus)) == {"can-silent"}
    stopping = threading.Event()
    ids = [0x555]

    def talk():
        with can.Bus(interface="udp_multicast", channel=GROUP, port=port, hop_limit=0) as bus:
            while not stopping.wait(0.05):
                for number in ids:
                    bus.send(can.Message(arbitration_id=number, is_extended_id=False, data=b"\1"))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        found = board.find(can_bus)
        assert set(found) == {"can-no-mapped-frame"}
        assert "100" in found["can-no-mapped-frame"].text
        ids.append(0x100)
        assert set(board.find(can_bus)) == {"can-good"}
    finally:
        stopping.set()
        thread.join(10)


def test_an_interface_that_is_not_there_gets_the_boards_own_remedy(board):
    (board.folder / "car.dbc").write_text(DBC)
    signals = '{ "battery.percent" = "Percent" }'
    more = f'[[can]]\nchannel = "vcan71"\ndbc = ["car.dbc"]\nsignals = {signals}\n'
    board.configure(more=more)
    found = board.find(can_bus)
    assert set(found) <= {"can-no-vcan", "can-no-ip", "can-cannot-listen"}
    if program("ip"):
        assert "type vcan" in found["can-no-vcan"].command


def test_a_bus_of_diagnosis_is_looked_at_like_a_mapped_one(board):
    board.configure(more='[gps]\nsource = "none"\n[[obd]]\nchannel = "vcan72"\n')
    assert set(board.find(can_bus)) <= {"can-no-vcan", "can-no-ip", "can-link-good"}
    assert "vcan" in modules.gather(subject.examine(board.file)).needed


def test_what_ip_says_of_a_can_interface_is_read():
    links = parse(
        json.dumps(
            [
                {"ifname": "lo", "link_type": "loopback", "flags": ["UP"], "mtu": 65536},
                {
                    "ifname": "can0",
                    "link_type": "can",
                    "flags": ["NOARP", "UP", "LOWER_UP", "ECHO"],
                    "mtu": 72,
                    "linkinfo": {
                        "info_kind": "can",
                        "info_data": {
                            "state": "ERROR-PASSIVE",
                            "berr_counter": {"tx": 128, "rx": 3},
                            "restart_ms": 0,
                            "bittiming": {"bitrate": 500000, "sample_point": "0.875"},
                        },
                        "info_xstats": {"bus_error": 9},
                    },
                    "stats64": {"rx": {"dropped": 5, "over_errors": 2}, "tx": {}},
                },
                {"no": "name"},
                7,
            ]
        )
    )
    assert not links["lo"].is_can
    bus = links["can0"]
    assert (bus.is_can, bus.is_up, bus.state, bus.bitrate) == (True, True, "ERROR-PASSIVE", 500_000)
    assert (bus.restart_ms, bus.takes_fd, bus.tx_errors, bus.rx_dropped) == (0, True, 128, 7)
    assert parse("not JSON") == {}


# --- broker and certificate ----------------------------------------------------------------------


def wait_for_port(port):
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.needs("mosquitto")
def test_a_broker_that_takes_the_vehicle_is_good(board, free_port):
    port = free_port()
    board.configure(port=port)
    with Mosquitto(board.folder / "mosquitto", board.pki.broker(), port) as peer:
        found = board.find(broker)
        assert "as van-1" in peer.log()
    assert set(found) == {"broker-good"}


@pytest.mark.needs("mosquitto")
def test_a_broker_of_another_ca_is_named(board, free_port):
    port = free_port()
    board.configure(port=port)
    other = Pki(board.folder / "other", name="Other CA")
    with Mosquitto(board.folder / "mosquitto", other.broker(), port):
        found = board.find(broker)
    assert "was not signed by the CA" in found["broker-tls"].text


@pytest.mark.needs("mosquitto")
def test_a_broker_certificate_for_another_name_is_named(board, free_port):
    port = free_port()
    board.configure(port=port)
    named = board.pki.broker(names=("elsewhere.example",), addresses=("127.0.0.9",))
    with Mosquitto(board.folder / "mosquitto", named, port):
        found = board.find(broker)
    assert "is for another name" in found["broker-tls"].text


@pytest.mark.needs("mosquitto")
def test_an_expired_certificate_of_the_vehicle_is_found_by_date_and_by_the_broker(board, free_port):
    port = free_port()
    board.configure(identity=board.pki.vehicle("van-1", valid_days=(-9, -2)), port=port)
    with Mosquitto(board.folder / "mosquitto", board.pki.broker(), port):
        dialled = board.find(broker)
    read = board.find(certificate)
    assert "certificate has expired" in dialled["broker-tls"].text
    assert "expired 2 days ago" in read["cert-expired"].text


@pytest.mark.needs("mosquitto")
def test_a_broker_that_refuses_the_client_is_told_from_a_bad_network(board, free_port):
    port = free_port()
    board.configure(port=port)
    extra = "clientid_prefixes truck-"
    with Mosquitto(board.folder / "mosquitto", board.pki.broker(), port, extra):
        found = board.find(broker)
    assert set(found) == {"broker-client-refused"}


def test_a_port_without_a_broker_and_names_that_are_none_are_told_apart(board, free_port):
    board.configure(port=free_port())
    assert set(board.find(broker)) == {"broker-refused"}
    board.configure(host="a..b")
    assert set(board.find(broker)) <= {"broker-no-name", "broker-no-network"}


def test_a_server_that_never_answers_does_not_hang_it(board):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        board.configure(port=mute.getsockname()[1])
        found = board.find(broker)
    assert "does not answer" in found["broker-tls"].text


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda pki: {"key_file": pki.vehicle("van-8").key_file}, "cert-mismatch"),
        (lambda pki: {"key_file": pki.folder / "nowhere.pem"}, "cert-file-unusable"),
        (lambda pki: {"certificate_file": pki.broker().certificate_file}, "cert-mismatch"),
        (lambda pki: {"ca_file": pki.vehicle("x").certificate_file}, "cert-no-ca"),
    ],
)
def test_what_is_wrong_with_the_files_is_found(board, change, code):
    identity = board.pki.vehicle("van-1", valid_days=(-1, 300))
    board.configure(identity=replace(identity, **change(board.pki)))
    assert code in board.find(certificate)


def test_a_key_that_others_can_read_and_a_name_that_is_anothers_are_found(board):
    identity = board.pki.vehicle("van-2", valid_days=(-1, 300))
    identity.key_file.chmod(0o644)
    board.configure(identity=identity)
    assert {"cert-key-open", "cert-other-name"} <= set(board.find(certificate))


# --- the running agent ---------------------------------------------------------------------------


@pytest.mark.needs("mosquitto")
def test_a_running_agent_is_asked_and_not_thrown_off_the_broker(board, free_port):
    port = free_port()
    more = '[gps]\nsource = "none"\n[delivery]\nshutdown_drain_s = 0\n'
    board.configure(port=port, more=more)
    with Mosquitto(board.folder / "mosquitto", board.pki.broker(), port) as peer:
        agent = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(board.file)],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while subject.examine(board.file).running is not Running.YES:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            while "broker-agent-connected" not in (found := board.find(broker)):
                # until the agent listens and connects, nothing may be said of the identity
                assert time.monotonic() < deadline, found
                time.sleep(0.2)
            examined = subject.examine(board.file)
            # without its socket the lock still tells that it runs
            (board.folder / "run" / "agent.sock").unlink()
            mute = subject.examine(board.file)
            board.find(broker)
            logged = peer.log()
        finally:
            agent.kill()
            agent.wait(10)
    assert examined.running is Running.YES
    assert examined.account["connected"]
    assert mute.running is Running.YES
    assert mute.account is None
    assert "already connected" not in logged
    assert subject.examine(board.file).running is Running.NO


# --- disk ----------------------------------------------------------------------------------------


@unshared
def test_a_full_file_system_is_found(board):
    state = board.folder / "state"
    mount = (
        f"mount -t tmpfs -o size=300k tmpfs {state}; "
        f"dd if=/dev/zero of={state}/filler bs=4k status=none || true"
    )
    assert {"disk-full", "disk-volatile"} <= set(board.codes("--only", "disk", before=mount))


@unshared
def test_a_read_only_file_system_is_found(board):
    state = board.folder / "state"
    mount = f"mount -t tmpfs -o ro tmpfs {state}"
    assert "disk-read-only" in board.codes("--only", "disk", before=mount)


def test_a_damaged_outbox_is_found(board):
    path = board.folder / "state" / "outbox.db"
    migrate(path, 0)
    assert "disk-outbox-unsound" not in board.find(disk)
    path.write_bytes(path.read_bytes()[:5000] + os.urandom(20_000))
    found = board.find(disk)
    assert "outbox verify" in found["disk-outbox-unsound"].command


def test_the_deepest_and_last_mount_above_a_folder_counts():
    told = (
        "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n"
        "30 22 0:25 / /var rw - tmpfs tmpfs rw\n"
        "31 22 179:3 / /var ro,noatime - ext4 /dev/mmcblk0p3 rw\n"
        "32 22 179:4 / /var/lib\\040x rw - ext4 /dev/sda1 rw\n"
        "junk\n"
    )
    assert find(told, "/var/lib/milepost").read_only
    assert find(told, "/variant").point == "/"
    assert find(told, "/var/lib x/y").point == "/var/lib x"


# --- the command ---------------------------------------------------------------------------------


@unshared
def test_without_a_network_it_says_that_and_no_more_of_the_broker(board):
    board.configure(host="telemetry.example", more='[gps]\nsource = "none"\n')
    done = board.run("--only", "broker", before="true")
    assert done.returncode == 2
    assert "no route to the network" in done.stdout


def test_with_a_broken_config_the_rest_is_looked_at_all_the_same(board, free_port):
    good = board.file.read_text()
    board.file.write_text(good.replace('id = "van-1"', 'id = "van 1"\nunknown = 3'))
    done = board.run("--json", "--only", "config,disk,broker,certificate")
    codes = [finding["code"] for finding in json.loads(done.stdout)["findings"]]
    assert done.returncode == 2
    assert {"config-broken", "broker-refused", "cert-expires-soon"} <= set(codes)
    board.file.write_text("[[[")
    assert {"config-broken", "broker-not-checked"} <= set(board.codes())
    board.file.unlink()
    assert "config-absent" in board.codes("--only", "config")


def test_the_exit_code_is_that_of_the_worst_finding(board):
    identity = board.pki.vehicle("van-1", valid_days=(-1, 300))
    board.configure(identity=identity)
    worst = board.run("--only", "broker")
    assert (worst.returncode, "ERROR" in worst.stdout) == (2, True)
    soon = board.run("--only", "certificate")  # the CA of the tests is good for some days
    assert (soon.returncode, "WARNING" in soon.stdout) == (1, True)
    assert "$ openssl" in soon.stdout
    good = board.run("--only", "config")
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "Nothing to mend.")
    unknown = board.run("--only", "gsp")
    assert unknown.returncode == 2
    assert "there are config, service, gps" in unknown.stderr


@pytest.mark.needs("setpriv")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_rights_gets_what_can_be_seen_and_no_traceback():
    other = [program("setpriv"), "--reuid", "65534", "--clear-groups"]
    if subprocess.run(
        [*other, sys.executable, "-c", "import agent"], cwd=ROOT, check=False
    ).returncode:
        pytest.skip("that user cannot run this Python")
    # pytest keeps its own folders from other users
    with tempfile.TemporaryDirectory(prefix="doctor-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        board = Board(folder)
        (folder / "state").chmod(0o700)
        done = board.run("--json", user="65534")
        folder.chmod(0o700)
        shut_out = board.run("--json", user="65534")
    for run in (done, shut_out):
        assert "Traceback" not in run.stderr
        assert "area-broke" not in run.stdout
    assert "config-denied" in shut_out.stdout
    codes = {finding["code"] for finding in json.loads(done.stdout)["findings"]}
    assert {"cert-not-readable-here", "disk-not-tried"} <= codes


def test_an_area_that_hangs_or_breaks_does_not_hold_the_others(board, monkeypatch):
    class Well:
        check = staticmethod(can_bus.check)

        @staticmethod
        def gather(_):
            return can_listen.Facts(())

    class Hangs(Well):
        @staticmethod
        def gather(_):
            threading.Event().wait(600)

    class Breaks(Well):
        @staticmethod
        def gather(_):
            raise ZeroDivisionError

    looked_at = {
        "hangs": Area("hangs", "", Hangs),
        "breaks": Area("breaks", "", Breaks),
        "well": Area("well", "", Well),
    }
    monkeypatch.setattr(areas, "AREAS", looked_at)
    reports = list(look(subject.examine(board.file), list(looked_at), timeout_s=5.0))
    codes = [report.findings[0].code for report in reports]
    assert codes == ["area-timed-out", "area-broke", "can-none"]
    assert [report.severity for report in reports[:2]] == [Severity.WARNING] * 2


def test_the_shell_completes_the_areas():
    done = subprocess.run(
        [sys.executable, "-m", "agent"],
        cwd=ROOT,
        env=os.environ
        | {
            "_MILEPOST_AGENT_COMPLETE": "bash_complete",
            "COMP_WORDS": "milepost-agent doctor --only gps,c",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    offered = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert offered == {"gps,config", "gps,can", "gps,clock", "gps,certificate"}


def test_no_command_of_the_page_is_cut_by_the_width_of_the_terminal(board):
    board.configure(port=1, more='[gps]\nsource = "none"\n')
    narrow = subprocess.run(
        [sys.executable, "-m", "agent", "doctor", "--config", str(board.file), "--only", "broker"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "$ sudo ss -ltn 'sport = :1'" in narrow.stdout
