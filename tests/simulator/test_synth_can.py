"""CAN of other vehicles: any DBC, fed by the drive; cantools is the witness."""

import shlex

import cantools
import pytest
from click.testing import CliRunner

from simulator.can_log import CanLog
from simulator.cli import cli
from simulator.errors import FileError
from simulator.synth import DriveOptions, synthesise
from simulator.synth.profiles import profile_folder, profile_names, profile_path
from simulator.synth.vehicle_file import load_profile
from tests.conftest import ROOT

DBCS = ROOT / "firmware-config" / "dbc"


def make(tmp_path, *words):
    done = CliRunner().invoke(
        cli, ["synth", "can", *map(str, words), "--route", "hop", "--out", str(tmp_path / "made")]
    )
    return done, tmp_path / "made.candump"


def decoded(log, dbc, channel=None):
    """Every frame of the log that the DBC describes: message name and values."""
    # J1939: whoever sends it
    mask = 0x1FFFFF00 if "j1939" in dbc.name else None
    database = cantools.database.load_file(dbc, frame_id_mask=mask)
    for frame in CanLog(log, log_channel=channel):
        message = database.get_message_by_frame_id(frame.arbitration_id)
        yield message.name, message.decode(frame.data, decode_choices=False)


def test_the_signals_of_any_dbc_follow_the_drive(tmp_path):
    done, log = make(
        tmp_path,
        *("--dbc", DBCS / "e-bike.dbc"),
        *("--signal", "MotorState.WheelSpeed=speed_kmh*0.5", "--signal", "MotorState.Assist=3"),
        *("--signal", "TripState.Odometer=odometer_km"),
    )
    assert done.exit_code == 0, done.output
    speeds, distances = [], []
    for name, values in decoded(log, DBCS / "e-bike.dbc"):
        if name == "MotorState":
            assert values["Assist"] == 3
            speeds.append(values["WheelSpeed"])
        else:
            distances.append(values["Odometer"])
    assert 10 < max(speeds) < 15, "half of what the street allows"
    assert distances == sorted(distances)
    assert 0.3 < distances[-1] - distances[0] < 0.6


@pytest.mark.parametrize("name", profile_names())
def test_every_vehicle_that_comes_with_the_simulator_can_be_synthesised(tmp_path, name):
    profile = load_profile(profile_path(name))
    drive = synthesise(DriveOptions(route="hop"), profile, chosen=f"--vehicle {name}")
    assert ("GPS" in drive.nmea) is profile.gps
    assert bool(drive.candump) is bool(profile.bus)
    log = tmp_path / "drive.candump"
    log.write_text(drive.candump or "# none\n")
    for bus in profile.bus:
        seen = {message for message, _ in decoded(log, bus.dbc, bus.channel)}
        assert seen == set(bus.messages)


def test_the_dbcs_of_the_vehicles_are_those_of_the_firmware_folder():
    for path in profile_folder().glob("*.dbc"):
        assert path.read_bytes() == (DBCS / path.name).read_bytes()


def test_a_multiplexed_message_carries_each_of_its_branches_in_turn(tmp_path):
    _, log = make(tmp_path, "--vehicle", "electric-van")
    seen = [
        values["Module"]
        for name, values in decoded(log, DBCS / "electric-van-drive.dbc", "can0")
        if name == "HvModules"
    ]
    assert seen[:8] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_j1939_is_sent_from_the_address_of_the_map_with_unused_bits_set(tmp_path):
    _, log = make(tmp_path, "--vehicle", "truck-j1939")
    first = next(iter(CanLog(log)))
    assert f"{first.arbitration_id:08X}" == "0CF00400"
    assert first.data[:2] == b"\xff\xff"
    assert first.data[5:] == b"\xff\xff\xff"


def test_an_engine_idles_revs_and_burns_fuel_and_an_electric_motor_does_not(tmp_path):
    _, log = make(tmp_path, "--vehicle", "truck-j1939")
    rpm, fuel = [], []
    for frame in CanLog(log):
        pgn = frame.arbitration_id >> 8 & 0xFFFF
        if pgn == 61444:
            rpm.append(int.from_bytes(frame.data[3:5], "little") * 0.125)
        if pgn == 65276:
            fuel.append(frame.data[1] * 0.4)
    assert min(rpm) == 0
    assert 600 in rpm
    assert 1_000 < max(rpm) < 2_000
    assert fuel == sorted(fuel, reverse=True)


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("MotorState.WheelSpeed=speed_khm", "did you mean 'speed_kmh'"),
        ("MotorState.WheelSped=speed_kmh", "did you mean 'WheelSpeed'"),
        ("MotorSate.WheelSpeed=speed_kmh", "did you mean 'MotorState'"),
        ("MotorState.MotorSpeed=engine_rpm", "this model of vehicle has no engine_rpm"),
        ("MotorState=speed_kmh", "is not MESSAGE.SIGNAL=QUANTITY"),
        ("MotorState.WheelSpeed=", "is not MESSAGE.SIGNAL=QUANTITY"),
    ],
)
def test_what_does_not_exist_is_named_with_what_there_is(tmp_path, signal, said):
    done, log = make(tmp_path, "--dbc", DBCS / "e-bike.dbc", "--signal", signal)
    assert done.exit_code != 0
    assert said in done.output
    assert not log.exists()


def test_a_vehicle_file_is_checked_key_by_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('modle = "e-bike"\n[[bus]]\nchannel = 3\n')
    with pytest.raises(FileError) as caught:
        load_profile(path)
    lines = str(caught.value).splitlines()
    assert any('modle: unknown key; did you mean "model"?' in line for line in lines)
    assert any("bus[0].dbc: is required and missing" in line for line in lines)
    assert any("bus[0].channel = 3" in line for line in lines)
    with pytest.raises(FileError, match="did you mean 'e-bike'"):
        profile_path("ebike")


@pytest.mark.parametrize(
    "words",
    [
        ["--vehicle", "e-bike", "--seed", "5"],
        ["--dbc", str(DBCS / "e-bike.dbc"), "--signal", "MotorState.WheelSpeed=speed_kmh*0.5"],
    ],
)
def test_the_header_of_a_log_is_the_command_that_makes_it(tmp_path, words):
    done, log = make(tmp_path, *words)
    assert done.exit_code == 0, done.output
    first = log.read_bytes()
    command = first.splitlines()[1].decode().removeprefix("# made by: milepost-sim ")
    again = CliRunner().invoke(cli, [*shlex.split(command), "--out", str(tmp_path / "made")])
    assert again.exit_code == 0, again.output
    assert log.read_bytes() == first
