"""The config file: what is read, and what an operator is told when it is wrong."""

from pathlib import Path

import pytest

from agent.config import AgentSettings, FieldKind, field_kind, load
from agent.config.can import FIELDS
from agent.errors import ConfigError
from contract import Mode, Sample
from tests.conftest import ROOT

GOOD = """
[vehicle]
id = "van-1"
[[can]]
interface = "virtual"
channel = "can0"
dbc = ["bus/car.dbc"]
[can.options]
hop_limit = 0
[can.signals]
"location.lat" = "Latitude"
location.lon = { signal = "Longitude", valid_if = "PositionValid" }
"motion.speed_kmh" = { signal = "gnss_speed.Speed", scale = 3.6, max = 300 }
"signals.engine_rpm" = "Rpm"
"diagnostics.error_codes" = ["Fault1", { signal = "Fault2" }]
[broker]
host = "broker.example"
ca_file = "certs/ca.pem"
certificate_file = "/etc/milepost/certificate.pem"
key_file = "certs/key.pem"
"""


def write(tmp_path, text):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def refused(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert str(tmp_path / "agent.toml") in caught.value.message
    return caught.value


TOKEN = 'pkcs11 = { module_file = "m.so", token_label = "t", key_label = "k", pin_file = "p/pin" }'


def test_the_files_of_a_token_are_taken_from_the_folder_of_the_config_file(tmp_path):
    text = GOOD.replace('key_file = "certs/key.pem"', f'transport = "awscrt"\n{TOKEN}')
    token = load(write(tmp_path, text)).broker.pkcs11
    assert (token.module_file, token.pin_file) == (tmp_path / "m.so", tmp_path / "p/pin")
    assert (token.token_label, token.key_label) == ("t", "k")


def test_without_a_pin_file_the_pin_is_what_systemd_passes(tmp_path, monkeypatch):
    without = TOKEN.replace(', pin_file = "p/pin"', "")
    text = GOOD.replace('key_file = "certs/key.pem"', f'transport = "awscrt"\n{without}')
    token = load(write(tmp_path, text)).broker.pkcs11
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/milepost-agent.service")
    assert token.pin_path == Path("/run/credentials/milepost-agent.service/pkcs11-pin")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    unit = (ROOT / "systemd/milepost-agent.service").read_text()
    assert f"LoadCredential=pkcs11-pin:{token.pin_path.name}" in unit


def test_paths_are_taken_from_the_folder_of_the_config_file(tmp_path):
    settings = load(write(tmp_path, GOOD))
    assert settings.can[0].dbc == (tmp_path / "bus/car.dbc",)
    assert settings.broker.ca_file == tmp_path / "certs/ca.pem"
    assert settings.broker.certificate_file == Path("/etc/milepost/certificate.pem")
    assert settings.state.dir == Path("/var/lib/milepost")


def test_a_signal_may_be_a_name_a_table_or_a_list_and_keys_may_be_dotted(tmp_path):
    signals = load(write(tmp_path, GOOD)).can[0].signals
    assert signals["location.lat"][0].signal == "Latitude"
    assert signals["location.lon"][0].valid_if == "PositionValid"
    assert signals["motion.speed_kmh"][0].scale == 3.6
    assert [entry.signal for entry in signals["diagnostics.error_codes"]] == ["Fault1", "Fault2"]


def test_the_rates_of_the_modes_have_their_defaults(tmp_path):
    sampling = load(write(tmp_path, GOOD)).sampling
    assert {mode: sampling.interval_s(mode) for mode in Mode} == {
        Mode.IN_TRIP: 0.2,
        Mode.NORMAL: 1.0,
        Mode.IDLE: 10.0,
        Mode.SAVER: 60.0,
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('id = "van-1"', "id = 5", "vehicle.id = 5: should be a valid string"),
        ('id = "van-1"', 'id = "van/1"', 'vehicle.id = "van/1": '),
        ("[broker]", '[broker]\nport = "8883"', 'broker.port = "8883": should be a valid integer'),
        ("[broker]", "[broker]\nport = 70000", "broker.port = 70000: "),
        (
            "[broker]",
            "[broker]\nhots = 1",
            'broker.hots = 1: unknown key; did you mean "host"?',
        ),
        ("[vehicle]", "[gpss]\n[vehicle]", 'gpss = {}: unknown key; did you mean "gps"?'),
        ("scale = 3.6", "scal = 3.6", 'unknown key; did you mean "scale"?'),
        ('host = "broker.example"', "", "broker.host: is required and missing"),
        ("location.lon = ", '"location.long" = ', 'did you mean "location.lon"?'),
        ('"location.lat" = "Latitude"', "", "must be mapped together"),
        ('"signals.engine_rpm" = "Rpm"', '"signals.x" = ["A", "B"]', "takes one signal"),
        ("max = 300", "min = 400, max = 300", "min 400.0 is above max 300.0"),
        (
            "[broker]",
            "[sampling.thresholds]\nsaver_leave_battery_percent = 10\n[broker]",
            "must be below saver_leave_battery_percent = 10",
        ),
        ('key_file = "certs/key.pem"', "", "broker: key_file is required and missing"),
        (
            "[broker]",
            '[broker]\ntransport = "awscrt"\nserver_name = "other"',
            'broker: transport = "awscrt" checks the broker\'s certificate against host',
        ),
        ("[broker]", f"[broker]\n{TOKEN}", "broker: has key_file and [broker.pkcs11]"),
        (
            'key_file = "certs/key.pem"',
            TOKEN,
            'broker: [broker.pkcs11] needs transport = "awscrt"',
        ),
        ("[broker]", "[sampling.idle]\ninterval_s = 0\n[broker]", "sampling.idle.interval_s = 0"),
        ("[broker]", '[log]\nlevel = "loud"\n[broker]', 'log.level = "loud"'),
    ],
)
def test_an_error_names_file_key_and_value(tmp_path, old, new, expected):
    assert old in GOOD
    assert expected in refused(tmp_path, GOOD.replace(old, new)).message


def test_every_fault_is_named_at_once(tmp_path):
    error = refused(tmp_path, GOOD.replace("[broker]", "[broker]\nport = 0\nkeep_alive_s = 1.5"))
    assert "broker.port" in error.message
    assert "broker.keep_alive_s" in error.message


def test_the_hint_gives_unit_and_default_of_the_key(tmp_path):
    error = refused(tmp_path, GOOD.replace("[broker]", "[gps]\nstale_after_s = 0\n[broker]"))
    assert "Seconds" in error.hint
    assert "Default 5" in error.hint


def test_a_field_mapped_on_two_buses_is_refused(tmp_path):
    second = '[[can]]\nchannel = "can1"\ndbc = ["b.dbc"]\nsignals."signals.engine_rpm" = "R"\n'
    assert "on can0 and on can1" in refused(tmp_path, GOOD + second).message


def test_a_bus_has_one_tester(tmp_path):
    two = GOOD + '[[obd]]\nchannel = "can1"\n' + '[[obd]]\nchannel = "can1"\nids = "29bit"\n'
    assert "two [[obd]] tables" in refused(tmp_path, two).message
    other = load(write(tmp_path, two.replace('"can1"\nids', '"can2"\nids')))
    assert [bus.channel for bus in other.obd] == ["can1", "can2"]


def test_a_mistake_in_a_pid_names_its_place(tmp_path):
    error = refused(tmp_path, GOOD + '[[obd]]\npids = { "motion.speed_kmh" = { pid = 400 } }\n')
    assert 'obd[0].pids."motion.speed_kmh".pid = 400' in error.message


@pytest.mark.parametrize("text", ["[vehicle\n", "vehicle = \n", "\ufeff[[[\n"])
def test_broken_toml_names_the_line(tmp_path, text):
    assert "line 1" in refused(tmp_path, text).message


def test_one_bus_in_single_brackets_is_told_how_a_list_is_written(tmp_path):
    text = GOOD.replace("[[can]]", "[can]")
    assert "write [[can]], with two brackets" in refused(tmp_path, text).message


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.toml")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xff\xfe[vehicle]")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(path)


def sections(model, prefix=""):
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            yield from sections(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def test_every_key_has_a_description_with_its_default():
    for name, field in sections(AgentSettings):
        if name == "can":
            continue
        assert field.description, name
        if not field.is_required() and field.default_factory is None and "dir" not in name:
            assert "efault" in field.description, name


def test_every_mappable_field_is_one_of_the_contract():
    for name in FIELDS:
        model = Sample
        for part in name.split("."):
            field = model.model_fields[part]
            candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
            model = next((one for one in candidates if hasattr(one, "model_fields")), None)
    assert field_kind("signals.anything") is FieldKind.ANY
    assert field_kind("vehicle_status.trip_id") is None
