"""The presets: each is installed, run by the real agent and fed by a simulated vehicle.

The vehicle's frames are those of one moment of a synthetic drive, sent again and again, so
what a sample must say is known exactly: cantools decodes the same frames.
"""

import json
import socket
import subprocess
import sys
import time
import tomllib

import cantools
import pytest
from click.testing import CliRunner

from agent.cli import cli
from agent.config import load
from agent.preset import presets
from agent.sources.can.setup import load_signal_map
from simulator.can_log import CanLog
from simulator.can_player import CanPlayer
from simulator.demo.bus import new_bus
from simulator.ecu.engine import EngineState, held
from simulator.ecu.j1939 import DM1, dm1, packets, parse_fault
from simulator.ecu.node import EcuNode, EcuOptions
from simulator.ecu.obd import parse_code
from simulator.gpsd_server import GpsdServer
from simulator.synth import DriveOptions, synthesise
from simulator.synth.profiles import profile_path
from simulator.synth.vehicle_file import load_profile
from simulator.toml_text import toml_text
from simulator.trace import read_trace
from tests.conftest import ROOT
from tests.fakes.can_frames import frames_of
from tests.fakes.pki import Pki

NAMES = [preset.name for preset in presets()]
FLAGS = {"battery.charging", "vehicle_status.locked", "vehicle_status.in_use"}
ON_THE_ROAD_S = 45


def init(folder, name, *words):
    arguments = ["init", "--preset", name, "--out", str(folder), *words]
    return CliRunner().invoke(cli, arguments)


def test_the_list_names_every_preset_with_what_it_is_for():
    done = CliRunner().invoke(cli, ["preset", "list"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert NAMES == ["diesel-van-obd", "e-bike", "electric-van", "gps-only", "truck-j1939"]
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_what_init_writes_is_what_the_agent_takes(tmp_path, name):
    done = init(tmp_path / "etc", name, "--vehicle", "van-1", "--broker", "broker.example.com")
    assert done.exit_code == 0, done.output
    settings = load(tmp_path / "etc" / "agent.toml")
    assert settings.vehicle.id == "van-1"
    assert settings.broker.host == "broker.example.com"
    for bus in settings.can:
        assert all(dbc.is_file() for dbc in bus.dbc)
    assert "check-config --config" in done.output
    shown = CliRunner().invoke(cli, ["preset", "show", name]).output
    assert tomllib.loads(shown)["vehicle"]["id"] == "VEHICLE_ID"


@pytest.mark.parametrize("name", NAMES)
def test_without_a_vehicle_it_writes_the_config_of_a_fleet(tmp_path, name):
    done = init(tmp_path, name, "--broker", "broker.example.com")
    assert done.exit_code == 0, done.output
    assert "provision --config" in done.output
    text = (tmp_path / "agent.toml").read_text()
    assert "VEHICLE_ID" not in text
    settings = load(tmp_path / "agent.toml")
    assert settings.vehicle.id == ""
    assert settings.broker.certificate_file is None
    assert settings.broker.ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_of_a_preset_tells_every_field_that_it_maps(name):
    folder = ROOT / "firmware-config" / "vehicles" / name
    readme = (folder / "README.md").read_text()
    assert f"--preset {name} " in readme
    assert f"(vehicles/{name})" in (folder.parent.parent / "README.md").read_text()
    table = tomllib.loads((folder / "agent.toml").read_text())
    for bus in table.get("can", []):
        for field in bus["signals"]:
            assert field in readme, field


def test_what_is_not_given_is_said_to_be_missing_and_nothing_is_written_over(tmp_path):
    first = init(tmp_path, "gps-only")
    assert "put broker.host in place of BROKER_HOST" in first.output
    assert init(tmp_path, "gps-only").exit_code == 0, "the same again changes nothing"
    config = tmp_path / "agent.toml"
    config.write_text(config.read_text() + "# mine\n")
    again = init(tmp_path, "gps-only")
    assert again.exit_code == 2
    assert "--force" in again.output
    assert config.read_text().endswith("# mine\n")
    assert init(tmp_path, "gps-only", "--force").exit_code == 0
    assert not config.read_text().endswith("# mine\n")


def test_a_preset_that_does_not_exist_and_a_wrong_id_are_told(tmp_path):
    done = init(tmp_path / "etc", "ebike")
    assert done.exit_code == 2
    assert "did you mean 'e-bike'" in done.output
    done = init(tmp_path / "etc", "e-bike", "--vehicle", "van 1/x")
    assert done.exit_code == 2
    assert not (tmp_path / "etc").exists()


class Bench:
    """A vehicle of the preset's kind, at one moment of its drive, and the agent in it."""

    def __init__(self, folder, name, free_port):
        self.folder = folder
        drive = synthesise(
            DriveOptions(route="hop"), load_profile(profile_path(name)), chosen=f"--vehicle {name}"
        )
        self.parts = []
        (folder / "drive.nmea").write_text(drive.nmea)
        (folder / "drive.candump").write_text(drive.candump)
        done = init(folder, name, "--vehicle", "van-1", "--broker", "localhost")
        assert done.exit_code == 0, done.output
        table = tomllib.loads((folder / "agent.toml").read_text())
        identity = Pki(folder / "pki").vehicle("van-1")
        table["broker"] |= {
            "port": free_port(),
            "ca_file": str(identity.ca_file),
            "certificate_file": str(identity.certificate_file),
            "key_file": str(identity.key_file),
        }
        table["state"] = {"dir": "state", "runtime_dir": "run"}
        table["delivery"] = {**table.get("delivery", {}), "shutdown_drain_s": 0}
        gpsd = GpsdServer(read_trace(folder / "drive.nmea"))
        gpsd.start()
        self.parts.append(gpsd)
        table["gps"] |= {"port": gpsd.port}
        self.buses = table.get("can", [])
        self.moments = {bus["channel"]: self._moment(bus["channel"]) for bus in self.buses}
        self.told = {}
        for section in table.get("obd", []):
            self._answer(section)
        for bus in self.buses:
            beside = [one for one in table.get("j1939", []) if one["channel"] == bus["channel"]]
            self._play(bus, beside)
        (folder / "agent.toml").write_text(toml_text(table))
        with (folder / "agent.log").open("wb") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", folder / "agent.toml"],
                cwd=ROOT,
                stderr=log,
            )

    def _messages(self, channel):
        return [
            message
            for bus in self.buses
            if bus["channel"] == channel
            for dbc in bus["dbc"]
            for message in cantools.database.load_file(self.folder / dbc).messages
        ]

    def _moment(self, channel):
        """The newest frame of each message, and of each branch of a multiplexed one."""
        multiplexed = {
            message.frame_id for message in self._messages(channel) if message.is_multiplexed()
        }
        newest = {}
        for frame in CanLog(self.folder / "drive.candump", log_channel=channel):
            if frame.offset_s > ON_THE_ROAD_S:
                break
            branch = frame.data[0] if frame.arbitration_id in multiplexed else None
            newest[frame.arbitration_id, branch] = frame
        return list(newest.values())

    def _play(self, bus, beside):
        log = self.folder / f"{bus['channel']}.candump"
        lines = [
            f"({number / 20:.6f}) can0 "
            + (f"{frame.arbitration_id:08X}" if frame.extended else f"{frame.arbitration_id:03X}")
            + f"#{frame.data.hex()}\n"
            for number, frame in enumerate(self.moments[bus["channel"]])
        ]
        if beside:
            ((identifier, data),) = packets(DM1, 3, dm1([parse_fault("110:3")]))
            lines.append(f"({len(lines) / 20:.6f}) can0 {identifier:08X}#{data.hex()}\n")
            self.told |= {"diagnostics.error_codes": ["SPN 110 FMI 3"]}
        log.write_text("".join(lines))
        address = new_bus()
        for section in (bus, *beside):
            section |= {"interface": address.interface, "channel": address.channel}
            section["options"] = address.options
        player = CanPlayer(
            log,
            interface=address.interface,
            channel=address.channel,
            options=address.options,
            loop=True,
            speed=4,
        )
        player.start()
        self.parts.append(player)
        self.moments[bus["channel"]] = list(CanLog(log))

    def _answer(self, section):
        """An ECU with values that J1979's coarsest byte can say."""
        address = new_bus()
        section |= {"interface": address.interface, "channel": address.channel}
        section["options"] = address.options
        engine = EngineState(
            speed_kmh=43, rpm=1_850.25, load_percent=20, coolant_degc=85, fuel_percent=40,
            supply_volts=14.125, odometer_km=2_458.5,
        )  # fmt: skip
        ecu = EcuNode(
            EcuOptions(stored=[parse_code("P0301")]),
            interface=address.interface,
            channel=address.channel,
            bus_options=address.options,
            engine=held(engine),
        )
        ecu.start()
        self.parts.append(ecu)
        self.told |= {
            "motion.speed_kmh": 43,
            "signals.engine_rpm": 1_850.25,
            "signals.engine_load_pct": pytest.approx(20.0, abs=0.01),
            "signals.coolant_temperature_c": 85,
            "signals.fuel_level_pct": pytest.approx(40.0, abs=0.01),
            "battery.voltage": pytest.approx(14.125, abs=1e-6),
            "diagnostics.odometer_km": pytest.approx(2_458.5, abs=1e-6),
            "diagnostics.error_codes": ["P0301"],
            "signals.vin": "WMPST000000000001",
        }

    def expected(self):
        """Contract field -> value, by cantools."""
        fields = dict(self.told)
        for bus in self.buses:
            messages = self._messages(bus["channel"])
            decoded = {}
            for frame in self.moments[bus["channel"]]:
                for message in messages:
                    if is_of(message, frame):
                        values = message.decode(frame.data, decode_choices=True)
                        decoded |= {f"{message.name}.{key}": each for key, each in values.items()}
            for field, entry in bus["signals"].items():
                if isinstance(entry, list):
                    fields[field] = sorted(one.split(".")[1] for one in entry if decoded[one] != 0)
                    continue
                one = {"signal": entry} if isinstance(entry, str) else entry
                value = decoded[one["signal"]]
                if not isinstance(value, int | float):
                    fields[field] = str(value)
                elif field in FLAGS:
                    fields[field] = value != 0
                else:
                    fields[field] = value * one.get("scale", 1)
        return fields

    def sample(self):
        """The last sample that the agent has taken, flat; None before the first."""
        with socket.socket(socket.AF_UNIX) as control:
            try:
                control.connect(str(self.folder / "run" / "agent.sock"))
            except OSError:
                assert self.agent.poll() is None, (self.folder / "agent.log").read_text()
                return {}
            text = b""
            while part := control.recv(65_536):
                text += part
        return flat(json.loads(text).get("last_sample") or {})

    def close(self):
        self.agent.terminate()
        for part in self.parts:
            part.stop()
        try:
            self.agent.wait(20)
        except subprocess.TimeoutExpired:
            self.agent.kill()
            self.agent.wait(10)


def is_of(message, frame):
    """By id; a message of J1939 by its PGN, whoever sends it."""
    ignored = 0xFF if message.protocol == "j1939" else 0
    return (message.frame_id | ignored, message.is_extended_frame) == (
        frame.arbitration_id | ignored,
        frame.extended,
    )


def flat(table, prefix=""):
    values = {}
    for key, value in table.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values


def differences(expected, sample):
    """Fields whose values are not as expected."""
    return {
        field: (wanted, sample.get(field))
        for field, wanted in expected.items()
        if (
            sample.get(field) != pytest.approx(wanted, abs=1e-9)
            if isinstance(wanted, float)
            else sample.get(field) != wanted
        )
    }


@pytest.mark.needs_traces
def test_the_truck_preset_reads_a_recorded_truck(tmp_path, traces):
    """Another maker's, standing with its engine off; it sends five of the nine groups."""
    assert init(tmp_path, "truck-j1939").exit_code == 0
    (bus,) = load(tmp_path / "agent.toml").can
    signals = load_signal_map(bus)
    database = cantools.database.load_file(bus.dbc[0], frame_id_mask=0x1FFF_FF00)
    expected = {}
    for at_s, frame in frames_of(traces / "can" / "dev02_truck_j1939_idle.candump"):
        signals.take([frame], at_s)
        try:
            message = database.get_message_by_frame_id(frame[0] & 0x1FFF_FFFF)
        except KeyError:
            continue
        for name, value in message.decode(frame[2]).items():
            top = message.get_signal_by_name(name).maximum
            # all bits set, or 10 and 11 of two bits: an error, or not available
            available = value <= (1 if top == 3 else top)
            expected[f"{message.name}.{name}"] = value if available else None
    seen = signals.read(at_s)
    for field, entries in bus.signals.items():
        (entry,) = entries
        value = expected.get(entry.signal)
        if value is None:
            assert field not in seen, (field, "not sent, or not available")
        else:
            assert seen[field] == value
    assert seen["motion.speed_kmh"] == 0
    assert seen["vehicle_status.in_use"] is False
    assert 50 < seen["signals.coolant_degc"] < 120
    assert seen["signals.engine_hours"] == pytest.approx(219.2)
    assert not {"signals.brake_switch", "signals.parking_brake"} & seen.keys(), "not available"


@pytest.mark.parametrize("name", NAMES)
def test_its_fields_come_out_of_a_simulated_vehicle_with_the_values_on_the_bus(
    tmp_path, free_port, name
):
    bench = Bench(tmp_path, name, free_port)
    try:
        expected = bench.expected()
        deadline = time.monotonic() + 60
        while True:
            sample = bench.sample()
            wrong = differences(expected, sample)
            if not wrong and "location.lat" in sample:
                break
            assert time.monotonic() < deadline, (wrong, (tmp_path / "agent.log").read_text())
            time.sleep(0.2)
        assert sample["location.lat"] == pytest.approx(50.106, abs=0.01)
        if name != "gps-only":
            assert expected["motion.speed_kmh"] > 1, "it is on the road"
    finally:
        bench.close()
