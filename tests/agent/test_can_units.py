"""A signal in another unit than its field's is found before it is driven with."""

import pytest

from agent.config import CanSettings, SignalSettings
from agent.config.can import FIELD_UNITS
from agent.errors import ConfigError
from agent.sources.can.setup import load_signal_map
from agent.sources.can.units import doubt, unit_of
from agent.sources.dbc.table import BitField, SignalTable


def table(unit):
    return SignalTable("Speed", "Dash", 256, extended=False, message_bytes=8, unit=unit,
                       field=BitField(0, 8, little_endian=True))  # fmt: skip


def about(field, written, **entry):
    return doubt(field, SignalSettings(signal="Speed", **entry), table(written))


def test_every_unit_of_the_contract_is_known():
    assert all(unit_of(unit) for unit in FIELD_UNITS.values())


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("motion.speed_kmh", "km/h"),
        ("motion.speed_kmh", "KPH"),
        ("battery.temperature", "deg C"),
        ("battery.temperature", "°C"),
        ("battery.percent", "%"),
        ("motion.heading", "degrees"),
        ("diagnostics.odometer_km", "km"),
        ("motion.acceleration.x", "m/s^2"),
        ("motion.speed_kmh", ""),
        ("motion.speed_kmh", "furlong/fortnight"),
        ("signals.anything", "mph"),
        ("vehicle_status.in_use", "V"),
    ],
)
def test_the_same_unit_none_and_an_unknown_one_pass(field, unit):
    assert about(field, unit) is None


@pytest.mark.parametrize(
    ("field", "unit", "advice"),
    [
        ("motion.speed_kmh", "mph", "write scale = 1.609344"),
        ("motion.speed_kmh", "m/s", "write scale = 3.6"),
        ("battery.voltage", "mV", "write scale = 0.001"),
        ("battery.temperature", "°F", "write scale = 0.5555556, offset = -17.77778"),
        ("battery.temperature", "K", "write scale = 1, offset = -273.15"),
        ("diagnostics.odometer_km", "m", "write scale = 0.001"),
        ("diagnostics.odometer_km", "miles", "write scale = 1.609344"),
        ("location.lat", "rad", "write scale = 57.29578"),
        ("motion.acceleration.z", "g", "write scale = 9.80665"),
        ("location.altitude", "km", "write scale = 1000"),
    ],
)
def test_another_unit_of_the_same_quantity_is_told_with_the_scale_to_write(field, unit, advice):
    found = about(field, unit)
    assert found.is_certain
    assert found.advice == advice
    given = dict(part.split(" = ") for part in advice.removeprefix("write ").split(", "))
    assert about(field, unit, **{key: float(value) for key, value in given.items()}) is None


def test_a_wrong_scale_is_only_doubted():
    found = about("motion.speed_kmh", "mph", scale=3.6)
    assert not found.is_certain
    assert about("motion.speed_kmh", "km/h", scale=1.609) is not None
    assert about("battery.current", "A", scale=-1.0, offset=0.3) is None


def test_another_quantity_is_refused_unless_the_config_says_the_dbc_is_wrong():
    assert about("battery.percent", "V").is_certain
    assert about("battery.percent", "V", unit="%") is None
    assert about("battery.percent", "V", unit="") is None
    assert about("battery.percent", "", unit="V").is_certain


def bus(tmp_path, unit, **entry):
    dbc = tmp_path / "car.dbc"
    dbc.write_text(
        f'VERSION ""\nBU_: E\nBO_ 256 Dash: 8 E\n SG_ Speed : 0|16@1+ (0.01,0) [0|0] "{unit}" E\n'
    )
    signals = {"motion.speed_kmh": {"signal": "Speed", **entry}}
    return CanSettings.model_validate({"dbc": [dbc], "signals": signals})


def test_a_map_with_another_unit_is_refused_and_says_what_to_write(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_signal_map(bus(tmp_path, "mph"))
    assert "motion.speed_kmh takes km/h, and Dash.Speed is in mph" in caught.value.message
    assert caught.value.hint == "Write scale = 1.609344."


def test_a_map_with_a_scale_that_does_not_fit_is_used_and_told(tmp_path, caplog):
    load_signal_map(bus(tmp_path, "mph", scale=2.0))
    assert "is in mph, scale = 2: write scale = 1.609344" in caplog.text
    caplog.clear()
    load_signal_map(bus(tmp_path, "mph", scale=1.609))
    assert not caplog.records
