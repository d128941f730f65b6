"""From facts to findings: one case for every finding that doctor knows."""

import errno
import os
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.board.record import Record
from agent.board.wanted import Wanted as BoardWanted
from agent.config import GpsSource
from agent.doctor import (
    areas,
    board,
    broker,
    broker_dial,
    can_bus,
    can_listen,
    certificate,
    clock,
    config_file,
    disk,
    gps,
    gps_daemon,
    gps_port,
    modules,
    permissions,
    power,
    reference,
    service,
    updates,
)
from agent.doctor import (
    identity as identity_area,
)
from agent.doctor.finding import Severity
from agent.doctor.gps_poll import Heard
from agent.doctor.links import Link
from agent.doctor.mounts import Mount
from agent.doctor.permissions import Node, Wanted
from agent.doctor.subject import Running, User
from agent.errors import ConfigError, IdentityError
from agent.identity import Identity
from agent.identity.due import Validity
from agent.identity.last import LastRotation
from agent.layer.record import Layer
from agent.layer.record import Record as LayerRecord
from agent.sources.can.ids import by_id, by_pgn
from agent.transport import CertificateFacts, Credentials
from tests.conftest import ROOT

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FILE = Path("/etc/milepost/it's.toml")
"""A name that a command must quote."""

DAY = timedelta(days=1)


def config(**fields):
    return config_file.Facts(**{"file": FILE, "vehicle_id": "van-1"} | fields)


def account(**fields):
    books = dict.fromkeys(
        [
            *("samples_created", "events_created", "inherited_messages", "samples_acknowledged"),
            *("events_acknowledged", "inherited_acknowledged", "backlog_messages"),
        ],
        0,
    )
    return books | {"dropped_messages": {}, "mode": "normal", "uptime_s": 60.0} | fields


UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "WatchdogUSec": "1min",
}


SKIPPED = {
    "ActiveState": "inactive",
    "ConditionResult": "no",
    "ConditionTimestampMonotonic": "36211",
    "WatchdogUSec": "0",
}


def systemd(properties, agent=Running.NO, told=None, *, has_systemd=True):
    return service.Facts(has_systemd, properties, agent, told)


def unit(**properties):
    return systemd(UNIT | properties, Running.YES, account())


def running(**fields):
    return systemd(UNIT, Running.YES, account(**fields))


def heard(device="/dev/ttyACM0", **fields):
    good = {
        "speaks": True,
        "mode": 3,
        "seen": 14,
        "used": 9,
        "first_fix": "2026-06-01T12:00:00.000Z",
        "last_fix": "2026-06-01T12:00:01.000Z",
        "watched_s": 1.0,
        "off": timedelta(seconds=0.4),
    }
    return Heard(device, **good | fields)


def gpsd(*receivers, faults=(), **fields):
    facts = gps_daemon.Facts("127.0.0.1", 2947, receivers=receivers, **fields)
    return gps.Facts(GpsSource.GPSD, faults, daemon=facts)


def serial(heard=None, **fields):
    counted = {"baud": 9600, "sentences": 40, "fixes": 3, "satellites_in_view": 12}
    told = None if heard is None else counted | heard
    return gps.Facts(GpsSource.SERIAL, port=gps_port.Facts("/dev/ttyAMA0", heard=told, **fields))


PACK = by_id(0x100, extended=False)
LINK = Link(
    name="can0",
    is_can=True,
    kind="can",
    is_up=True,
    state="ERROR-ACTIVE",
    bitrate=500_000,
    restart_ms=100,
)


def bus(model="", **fields):
    good = {
        "channel": "can0",
        "link": LINK,
        "known": ("can0",),
        "mapped": frozenset({PACK}),
        "frames": 200,
        "seen": frozenset({PACK}),
        "listen_s": 3.0,
    }
    return can_listen.Facts((can_listen.BusFacts(**good | fields),), model, "agent.toml")


def link(**fields):
    return bus(link=replace(LINK, **fields))


def time(**fields):
    good = {
        "utc": NOW,
        "synchronised": True,
        "service": "chrony",
        "offset_s": 0.0004,
        "has_rtc": True,
        "rtc_utc": NOW,
        "agent_quality": "gps",
    }
    return clock.Facts(**good | fields)


def state(**fields):
    good = {
        "state_dir": Path("/var/lib/milepost"),
        "exists": True,
        "mount": Mount("/", "ext4", read_only=False, device="mmcblk0"),
        "free_bytes": 4_000_000_000,
        "free_inodes": 100_000,
        "max_bytes": 256_000_000,
        "fsync_s": 0.004,
    }
    return disk.Facts(**good | fields)


ROOT_DIR = Node("/", 0, 0, 0o755)


def wanted(key, kind, need, *chain):
    nodes = (ROOT_DIR, *chain)
    return permissions.Facts(
        User("milepost", 990, frozenset({990})), (Wanted(key, kind, need, nodes),)
    )


def identity(**fields):
    good = {
        "now": NOW,
        "vehicle_id": "van-1",
        "ca_file": Path("/i/ca.pem"),
        "certificate_file": Path("/i/c.pem"),
        "key_file": Path("/i/k.pem"),
        "key_mode": 0o600,
        "certificate": CertificateFacts("van-1", NOW - DAY, NOW + 365 * DAY),
        "ca_ends": (NOW + 3650 * DAY,),
    }
    return certificate.Facts(**good | fields)


GENERATION = Identity(
    3, "van-1", "0123456789abcdef", "milepost_rotation", "2026-01-01T00:00:00Z", FILE, FILE, None
)
FAILED_ROTATION = LastRotation("2026-05-30T10:00:00Z", False, "does not connect", "0123", 2)  # noqa: FBT003


def provisioned(*, days_left=200, **fields):
    good = {
        "now": NOW,
        "folder": "/var/lib/milepost/identity",
        "identity": GENERATION,
        "validity": Validity(NOW - 100 * DAY, NOW + days_left * DAY, None),
    }
    return identity_area.Facts(**good | fields)


def issued(name="van-1", begins=-1, ends=365):
    return identity(certificate=CertificateFacts(name, NOW + begins * DAY, NOW + ends * DAY))


def dial(**fields):
    good = {
        "host": "broker.example",
        "port": 8883,
        "server_name": "broker.example",
        "credentials": Credentials(Path("ca.pem"), Path("c.pem"), Path("k.pem"), "broker.example"),
        "vehicle_id": "van-1",
        "took_s": 0.2,
    }
    return broker_dial.Facts(**good | fields)


def set_up(**fields):
    wanted = BoardWanted(board="pi4", hat="mcp2518fd", dbitrate=2_000_000, pps_gpio=18)
    record = Record(wanted.model_dump(mode="json"))
    good = {
        "record": replace(record, **fields.pop("of_record", {})),
        "model": "Raspberry Pi 4 Model B Rev 1.4",
        "links": {"can0": SET_UP_CAN},
        "watchdog": True,
        "controllers": frozenset({"cpu", "memory", "pids"}),
        "gpsd": ("/usr/sbin/gpsd", "-n", "/dev/ttyAMA0"),
        "refids": frozenset({"GPS", "PPS"}),
        "tmp_type": "tmpfs",
    }
    return board.Facts(**good | fields)


SET_UP_CAN = Link(
    "can0",
    is_can=True,
    kind="can",
    is_up=True,
    bitrate=500_000,
    data_bitrate=2_000_000,
    restart_ms=100,
)

CASES = {
    "board-not-applied": (board, board.Facts(model="Raspberry Pi 4 Model B Rev 1.4")),
    "board-record-unreadable": (board, board.Facts(unreadable="Permission denied")),
    "board-unfinished": (board, set_up(of_record={"is_whole": False})),
    "board-other-model": (board, set_up(model="Raspberry Pi 5 Model B Rev 1.0")),
    "board-changed": (board, set_up(changed=("/etc/default/gpsd",))),
    "board-reboot": (board, set_up(in_this_boot=True, links={}, watchdog=False, refids=None)),
    "board-can-absent": (board, set_up(links={})),
    "board-can-differs": (board, set_up(links={"can0": replace(SET_UP_CAN, bitrate=250_000)})),
    "board-watchdog-off": (board, set_up(watchdog=False)),
    "board-no-memory-limits": (board, set_up(controllers=frozenset({"cpu", "pids"}))),
    "board-gpsd-options": (board, set_up(gpsd=("/usr/sbin/gpsd",))),
    "board-no-chrony": (board, set_up(refids=None)),
    "board-chrony-sources": (board, set_up(refids=frozenset({"GPS"}))),
    "board-tmp-on-disk": (board, set_up(tmp_type="")),
    "board-good": (board, set_up()),
    "config-absent": (config_file, config(is_there=False)),
    "config-denied": (config_file, config(is_denied=True)),
    "config-broken": (config_file, config(fault=ConfigError("gps.prot = 1: unknown", hint="H."))),
    "config-source": (config_file, config(source_fault=ConfigError("car.dbc: no such file"))),
    "config-good": (config_file, config()),
    "config-layered": (
        config_file,
        config(layer=LayerRecord(Layer({"can": [], "log": {"level": "debug"}}, "job-1"))),
    ),
    "config-rolled-back": (
        config_file,
        config(layer=LayerRecord(failed_job="job-1", failure="no")),
    ),
    "updates-by-hand": (updates, updates.Facts()),
    "updates-off": (updates, updates.Facts("failed", 1)),
    "updates-no-key": (updates, updates.Facts("active", 0)),
    "updates-not-kept": (
        updates,
        updates.Facts("active", 1, {"succeeded": False, "to_version": "2.0", "reason": "offline"}),
    ),
    "updates-good": (updates, updates.Facts("active", 1, {"succeeded": True})),
    "service-no-systemd": (service, systemd({}, has_systemd=False)),
    "service-not-installed": (service, systemd({})),
    "service-not-enabled": (service, unit(UnitFileState="disabled")),
    "service-failed": (service, unit(ActiveState="failed", Result="exit-code")),
    "service-stopped": (service, unit(ActiveState="inactive")),
    "service-no-config": (
        service,
        replace(systemd(UNIT | SKIPPED), unit_config="/etc/milepost/agent.toml"),
    ),
    "service-awaits-identity": (service, systemd(UNIT | SKIPPED)),
    "service-restarts": (service, unit(NRestarts="3")),
    "service-no-watchdog": (service, unit(WatchdogUSec="0")),
    "agent-not-running": (service, systemd({}, has_systemd=False)),
    "agent-not-asked": (service, systemd(UNIT, Running.UNKNOWN)),
    "agent-mute": (service, systemd(UNIT, Running.YES)),
    "agent-unaccounted": (service, running(samples_created=1)),
    "agent-dropped": (service, running(samples_created=7, dropped_messages={"thinned": 7})),
    "agent-source-fault": (
        service,
        running(faults=[{"code": "source:can:can0", "reason": "bus-off", "lasts_s": 9.0}]),
    ),
    "agent-limited": (service, running(limited_by="data", wanted_mode="in_trip")),
    "agent-good": (service, running()),
    "gps-not-checked": (gps, gps.Facts(None)),
    "gps-off": (gps, gps.Facts(GpsSource.NONE)),
    "gps-gpsd-unreachable": (gps, gpsd(unreachable="Connection refused")),
    "gps-not-gpsd": (gps, gpsd(foreign="no JSON")),
    "gps-no-receiver": (gps, gpsd(ports=("/dev/ttyACM0", "/dev/ttyUSB1"))),
    "gps-other-receiver": (gps, gpsd(heard(), devices=("/dev/ttyS9",))),
    "gps-receiver-missing": (gps, gpsd(heard(), devices=("/dev/ttyACM0", "/dev/ttyS9"))),
    "gps-receiver-silent": (gps, gpsd(heard(mode=0, speaks=False))),
    "gps-no-fix": (gps, gpsd(heard(mode=1, used=0))),
    "gps-stale-fix": (gps, gpsd(heard(watched_s=2.6, last_fix="2026-06-01T12:00:00.000Z"))),
    "gps-clock-differs": (gps, gpsd(heard(off=timedelta(weeks=-1024)))),
    "gps-2d": (gps, gpsd(heard(mode=2))),
    "gps-few-satellites": (gps, gpsd(heard(used=4))),
    "gps-agent-fault": (
        gps,
        gpsd(
            heard(),
            faults=[{"code": "source:gps", "reason": "the receiver says nothing", "lasts_s": 61.0}],
        ),
    ),
    "gps-good": (gps, gpsd(heard())),
    "gps-port-absent": (gps, serial(is_there=False)),
    "gps-port-refused": (gps, serial(refused="another program has it; is it gpsd?")),
    "gps-port-silent": (gps, serial(silence="the receiver says nothing")),
    "gps-port-no-fix": (gps, serial({"fixes": 0})),
    "gps-port-busy": (gps, serial()),
    "gps-port-good": (gps, serial({})),
    "can-none": (can_bus, can_listen.Facts(())),
    "can-no-ip": (can_bus, bus(link=None, ip_found=False)),
    "can-no-vcan": (can_bus, bus(channel="vcan0", link=None)),
    "can-no-interface": (can_bus, bus(link=None, known=("can1",))),
    "can-no-interface-pi": (can_bus, bus("Raspberry Pi 5 Model B Rev 1.0", link=None)),
    "can-no-interface-jetson": (can_bus, bus("NVIDIA Jetson Orin Nano", link=None)),
    "can-chip-silent": (
        can_bus,
        replace(bus("Raspberry Pi 4 Model B", link=None), spi_chips=("mcp2515",)),
    ),
    "can-not-can": (can_bus, link(is_can=False)),
    "can-down": (can_bus, link(is_up=False)),
    "can-down-virtual": (can_bus, link(is_up=False, kind="vcan")),
    "can-bus-off": (can_bus, link(state="BUS-OFF")),
    "can-errors": (can_bus, link(state="ERROR-PASSIVE", rx_errors=130)),
    "can-no-restart": (can_bus, link(restart_ms=0)),
    "can-fd-off": (can_bus, bus(fd=True)),
    "can-drops": (can_bus, link(rx_dropped=17)),
    "can-cannot-listen": (can_bus, bus(listen_error="[Errno 97] not supported")),
    "can-no-dbc": (can_bus, bus(map_error="car.dbc: no signal Percent")),
    "can-wrong-bitrate": (can_bus, bus(frames=0, seen=frozenset(), error_frames=40)),
    "can-silent": (can_bus, bus(frames=0, seen=frozenset())),
    "can-no-mapped-frame": (can_bus, bus(seen=frozenset())),
    "can-some-missing": (can_bus, bus(mapped=frozenset({PACK, by_pgn(0x18FEF100)}))),
    "can-good": (can_bus, bus()),
    "can-obd-silent": (
        can_bus,
        replace(bus(), asked=({"channel": "can0", "requests": 9, "answered": 0},)),
    ),
    "can-link-good": (can_bus, bus(is_mapped=False)),
    "modules-none-needed": (modules, modules.Facts(())),
    "modules-absent": (modules, modules.Facts(("can",), available=frozenset({"vcan"}))),
    "modules-not-loaded": (modules, modules.Facts(("can",), available=frozenset({"can"}))),
    "modules-unknown": (modules, modules.Facts(("can", "can_raw"), release="6.1")),
    "modules-good": (modules, modules.Facts(("can",), builtin=frozenset({"can"}))),
    "clock-implausible": (clock, time(utc=datetime(1970, 1, 1, 0, 2, tzinfo=UTC))),
    "clock-no-service": (clock, time(synchronised=False, service=None, offset_s=None)),
    "clock-not-synchronised": (clock, time(synchronised=False, offset_s=None)),
    "clock-kernel-not-told": (clock, time(synchronised=False)),
    "clock-offset": (clock, time(offset_s=-4.0)),
    "clock-rtc-wrong": (clock, time(rtc_utc=NOW - DAY)),
    "clock-no-rtc": (clock, time(has_rtc=False, rtc_utc=None)),
    "clock-agent-unsynced": (clock, time(agent_quality="unsynced")),
    "clock-no-helper": (clock, time(lacks_helper=True)),
    "clock-good": (clock, time()),
    "disk-no-state-dir": (disk, state(exists=False)),
    "disk-read-only": (disk, state(mount=Mount("/", "ext4", read_only=True))),
    "disk-volatile": (disk, state(mount=Mount("/var", "tmpfs"))),
    "disk-full": (disk, state(free_bytes=12_000_000)),
    "disk-tight": (disk, state(free_bytes=200_000_000)),
    "disk-no-inodes": (disk, state(free_inodes=3)),
    "disk-write-failed": (disk, state(write_errno=errno.EIO)),
    "disk-fsync-slow": (disk, state(fsync_s=0.9)),
    "disk-worn": (disk, state(life_used_tenths=10)),
    "disk-errors": (disk, state(fs_errors=2)),
    "disk-outbox-unsound": (disk, state(outbox_error="database disk image is malformed")),
    "disk-damaged-kept": (disk, state(kept_files=2)),
    "disk-not-tried": (disk, state(denied=True)),
    "disk-good": (disk, state()),
    "power-under-voltage": (power, power.Facts(under_voltage=True)),
    "power-hot": (power, power.Facts(under_voltage=False, celsius=83.0)),
    "power-unknown": (power, power.Facts()),
    "power-good": (power, power.Facts(under_voltage=False, celsius=51.0)),
    "perm-no-user": (permissions, permissions.Facts(User("milepost", None))),
    "perm-state": (
        permissions,
        wanted("state.dir", permissions.STATE, 7, Node("/var/lib/milepost", 0, 0, 0o755)),
    ),
    "perm-foreign-file": (
        permissions,
        permissions.Facts(User("m", 990), inside=(Node("/s/outbox.db", 0, 0, 0o600),)),
    ),
    "perm-identity": (
        permissions,
        wanted("broker.key_file", permissions.SECRET, 4, Node("/etc/k.pem", 0, 0, 0o600)),
    ),
    "perm-serial": (
        permissions,
        wanted("gps.device", permissions.SERIAL, 6, Node("/dev/ttyAMA0", 0, 20, 0o660)),
    ),
    "perm-root": (permissions, permissions.Facts(User("root", 0), is_service=True)),
    "perm-good": (
        permissions,
        wanted("state.dir", permissions.STATE, 7, Node("/var/lib/milepost", 990, 990, 0o700)),
    ),
    "cert-not-checked": (certificate, None),
    "cert-file-unusable": (
        certificate,
        identity(file_fault=IdentityError("broker.key_file: there is no file /i/k.pem", hint="H.")),
    ),
    "cert-not-provisioned": (
        certificate,
        certificate.Facts(NOW, missing_in=Path("/var/lib/milepost/identity")),
    ),
    "cert-not-readable-here": (certificate, identity(denied=Path("/i/k.pem"))),
    "cert-key-open": (certificate, identity(key_mode=0o644)),
    "cert-mismatch": (certificate, identity(pair_fault=IdentityError("not together", hint="H."))),
    "cert-expired": (certificate, issued(begins=-400, ends=-3)),
    "cert-expired-provisioned": (
        certificate,
        identity(
            certificate=CertificateFacts("van-1", NOW - 400 * DAY, NOW - 3 * DAY),
            is_provisioned=True,
        ),
    ),
    "cert-not-yet-valid": (certificate, issued(begins=1)),
    "cert-expires-soon": (certificate, issued(ends=29)),
    "cert-other-name": (certificate, issued(name="van-2")),
    "cert-ca-expired": (certificate, identity(ca_ends=(NOW - 2 * DAY, NOW - DAY))),
    "cert-ca-expires-soon": (certificate, identity(ca_ends=(NOW - DAY, NOW + 3 * DAY))),
    "cert-no-ca": (certificate, identity(ca_ends=())),
    "cert-token-unusable": (
        certificate,
        identity(token="van", module_file="/lib/p11.so", token_fault=IdentityError("wrong PIN")),
    ),
    "cert-token-good": (certificate, identity(token="van", certificate=None)),
    "cert-good": (certificate, identity()),
    "identity-not-checked": (identity_area, None),
    "identity-by-hand": (identity_area, provisioned(identity=None)),
    "identity-not-readable-here": (identity_area, provisioned(is_denied=True)),
    "identity-broken": (identity_area, provisioned(fault=IdentityError("is broken", hint="H."))),
    "identity-no-key-maker": (identity_area, provisioned(missing="cryptography")),
    "identity-rotation-cut-off": (identity_area, provisioned(is_pending=True)),
    "identity-rotation-under-way": (
        identity_area,
        provisioned(told={"rotating_because": "due", "step": "committing"}, is_pending=True),
    ),
    "identity-rotation-failed": (identity_area, provisioned(last=FAILED_ROTATION)),
    "identity-rotation-due": (identity_area, provisioned(days_left=20)),
    "identity-good": (identity_area, provisioned()),
    "broker-not-checked": (broker, None),
    "broker-no-network": (broker, dial(name_error="no answer", has_route=False)),
    "broker-no-name": (broker, dial(name_error="Name or service not known")),
    "broker-refused": (broker, dial(refused=True)),
    "broker-unreachable": (broker, dial(tcp_error="No route to host")),
    "broker-tls": (broker, dial(tls_error="the broker's certificate has expired")),
    "broker-client-refused": (broker, dial(mqtt_refusal="Not authorized")),
    "broker-mqtt-silent": (broker, dial(mqtt_error="no answer to CONNECT in 6 s")),
    "broker-agent-offline": (broker, dial(agent_connected=False, agent_waiting=7)),
    "broker-slow": (broker, dial(took_s=7.0)),
    "broker-identity-not-tried": (broker, dial(not_tried="its key is in a token")),
    "broker-agent-connected": (broker, dial(agent_connected=True)),
    "broker-good": (broker, dial()),
}

KINDS = {kind.code: kind for area in areas.AREAS.values() for kind in area.kinds}


def test_every_finding_of_every_area_has_a_case():
    assert set(CASES) == set(KINDS)
    assert len(KINDS) == sum(len(area.kinds) for area in areas.AREAS.values()), "a code twice"


@pytest.mark.parametrize("code", CASES)
def test_the_facts_lead_to_the_finding_with_its_remedy(code):
    module, facts = CASES[code]
    findings = list(module.check(facts))
    finding = next(found for found in findings if found.code == code)
    assert finding.severity is KINDS[code].severity
    assert finding.text
    assert not re.search(r"[{}]", finding.text.replace("{TPV", ""))
    if finding.severity >= Severity.WARNING:
        assert finding.command
    if finding.command:
        subprocess.run(["bash", "-n", "-c", finding.command], check=True, timeout=20)
    if finding.severity is Severity.OK:
        assert {found.severity for found in findings} <= {Severity.OK}
    else:
        # nothing else is wrong in the case: no finding drags another one along
        alike = {"clock-good", "can-good", "gps-good", "disk-good", "broker-good", "cert-good"}
        alike.add("identity-good")
        others = {found.code for found in findings} - {code} - alike
        assert others <= EXPECTED_TOO.get(code, set())


EXPECTED_TOO = {
    "config-layered": {"config-good"},
    "config-rolled-back": {"config-good"},
    "service-no-systemd": {"agent-not-running"},
    "agent-not-running": {"service-no-systemd"},
    "service-not-installed": {"agent-not-running"},
    "service-not-enabled": {"agent-good"},
    "service-failed": {"agent-good"},
    "service-stopped": {"agent-good"},
    "service-restarts": {"agent-good"},
    "service-no-watchdog": {"agent-good"},
    "perm-root": {"perm-good"},
}


def test_every_receiver_of_the_list_is_judged_and_the_one_in_use_is_named():
    devices = ("/dev/ttyS9", "/dev/ttyACM1", "/dev/ttyACM0")
    others = heard("/dev/ttyACM1", mode=1, used=0), heard("/dev/pps0", mode=0, speaks=False)
    found = {one.code: one.text for one in gps.check(gpsd(heard(), *others, devices=devices))}
    assert set(found) == {"gps-receiver-missing", "gps-no-fix", "gps-good"}
    assert "no receiver /dev/ttyS9" in found["gps-receiver-missing"]
    assert "/dev/ttyACM0 is in use" in found["gps-receiver-missing"]
    assert "/dev/ttyACM1 (not in use)" in found["gps-no-fix"]
    assert "/dev/ttyACM0 (in use)" in found["gps-good"]


def test_of_two_receivers_with_a_fix_the_one_that_the_agent_says_is_in_use():
    devices = ("/dev/ttyACM0", "/dev/ttyACM1")
    receivers = heard(), heard("/dev/ttyACM1")
    first, second = gps.check(gpsd(*receivers, devices=devices))
    assert "(in use)" in first.text
    assert "(not in use)" in second.text
    first, second = gps.check(gpsd(*receivers, devices=devices, agent_uses="/dev/ttyACM1"))
    assert "(not in use)" in first.text
    assert "(in use)" in second.text


def test_a_receiver_that_gpsd_reports_on_speaks_even_if_it_has_no_mode_yet():
    (finding,) = gps.check(gpsd(heard(mode=0, seen=3, used=0)))
    assert finding.code == "gps-no-fix"


def test_one_is_not_told_as_many():
    (finding,) = gps.check(serial({"sentences": 1, "fixes": 1}))
    assert finding.text.endswith(": 1 sentence, 1 fix")


def test_a_path_with_a_quote_stays_one_word_of_the_command():
    (finding,) = config_file.check(config(source_fault=ConfigError("no")))
    told = subprocess.run(
        ["bash", "-c", finding.command.replace("sudoedit", "printf %s")],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert told.stdout.startswith(str(FILE))


def test_a_certificate_that_provisioning_got_may_bear_any_name():
    named_by_serial = CertificateFacts("10000000abcd", NOW - DAY, NOW + 365 * DAY)
    [found] = certificate.check(identity(certificate=named_by_serial, is_provisioned=True))
    assert found.code == certificate.GOOD.code
    assert "van-1" in found.text


def test_the_page_of_findings_is_up_to_date():
    assert (ROOT / "docs" / "doctor.md").read_text() == reference.text(), "run: make schema"


def test_what_chronyc_says_is_read():
    told = (
        "Reference ID    : C0A80101 (192.168.1.1)\n"
        "System time     : 0.250000000 seconds slow of NTP time\n"
        "Leap status     : Normal\n"
    )
    assert clock.parse_tracking(told) == -0.25
    assert clock.parse_tracking(told.replace("slow", "fast")) == 0.25
    assert clock.parse_tracking(told.replace("Normal", "Not synchronised")) is None
    assert clock.parse_tracking("506 Cannot talk to daemon\n") is None


def test_what_chronyc_says_of_its_reference_clocks_is_read():
    told = "#,*,GPS,0,4,377,11,0.0,0.0,0.1\n^,+,192.168.1.1,2,6,377,53,0.0,0.0,0.1\nx\n"
    assert board.parse_sources(told) == {"GPS"}


@pytest.mark.parametrize(
    ("link", "what"),
    [
        (replace(SET_UP_CAN, data_bitrate=None), "the data bit rate unset, set up is 2000000"),
        (replace(SET_UP_CAN, restart_ms=0), "restart-ms unset, set up is 100"),
    ],
)
def test_every_setting_of_a_can_interface_is_held_against_what_is_set_up(link, what):
    (finding,) = board.check(set_up(links={"can0": link}))
    assert what in finding.text


def test_modes_groups_and_owners_decide_what_a_user_may_do():
    user = User("m", 990, frozenset({990, 20}))
    assert permissions.may(user, Node("/dev/ttyAMA0", 0, 20, 0o660), os.R_OK | os.W_OK)
    assert not permissions.may(user, Node("/dev/ttyAMA0", 0, 5, 0o660), os.R_OK)
    # the owner's bits count for the owner, though the group's would give more
    assert not permissions.may(user, Node("/x", 990, 990, 0o070), os.R_OK)
    assert permissions.may(User("root", 0), Node("/x", 5, 5, 0), os.W_OK)
