"""Settings laid over the config file: which keys, on trial, proven, rolled back."""

import json

import pytest
from click.testing import CliRunner

from agent.cli import cli
from agent.config.load import read_table
from agent.errors import ConfigError
from agent.jobs.apply_config import ApplyConfigOperation
from agent.jobs.journal import Entry, Journal, Step
from agent.jobs.operation import Ending, JobRefusedError, Unfinished
from agent.layer import ConfigLayer
from agent.layer.config_layer import MOST_STARTS
from agent.layer.merge import FIXED, laid_over
from contract.jobs import JobStatus
from tests.fakes.clock import FakeClock

FILE = """
[vehicle]
id = "van-1"
[state]
dir = "state"
[broker]
host = "a.example.com"
ca_file = "ca.pem"
certificate_file = "certificate.pem"
key_file = "key.pem"
[sampling.normal]
interval_s = 2
[[j1939]]
channel = "can0"
"""
SETTINGS = {"sampling": {"normal": {"interval_s": 5}}, "broker": {"host": "b.example.com"}}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "state").mkdir()
    path = tmp_path / "agent.toml"
    path.write_text(FILE)
    return path


def journal(file, job_id="job-1", step=Step.RUNNING):
    Journal(file.parent / "state").save(Entry(job_id, 1, "apply-config", step=step))


def interval_s(settings):
    return settings.sampling.normal.interval_s


def tried(file, settings=None, job_id="job-1"):
    """What a job has put on trial."""
    journal(file, job_id)
    ConfigLayer(file).try_out(SETTINGS if settings is None else settings, job_id)


def proven(file, settings=None, job_id="job-0"):
    tried(file, settings, job_id)
    layer = ConfigLayer(file)
    layer.begin()
    layer.confirm()


def test_tables_are_laid_over_key_by_key_and_anything_else_as_a_whole():
    table = {"a": {"b": 1, "c": [1, 2]}, "d": 4, "e": {"f": 1}}
    layer = {"a": {"c": [3]}, "d": None, "g": {"h": 1}, "e": {"f": None}}
    assert laid_over(table, layer) == {"a": {"b": 1, "c": [3]}, "e": {}, "g": {"h": 1}}
    assert table["a"] == {"b": 1, "c": [1, 2]}, "the file's table stays as it was"


@pytest.mark.parametrize(
    "settings",
    [
        {"vehicle": {"id": "van-2"}},
        {"vehicle": {}},
        {"vehicle": None},
        {"state": {"dir": "/elsewhere"}},
        {"state": {"runtime_dir": "/elsewhere"}},
        {"jobs": {"allow": ["update"]}},
        {"jobs": {"mode": "off"}},
        {"provision": {"template_name": "x"}},
        {"broker": {"certificate_file": "x"}},
        {"broker": {"key_file": "x"}},
        {"broker": {"pkcs11": {"pin_file": "x"}}},
        {"broker": None},
        {"broker": 5},
    ],
    ids=str,
)
def test_who_the_vehicle_is_and_what_it_allows_cannot_be_changed_from_afar(file, settings):
    with pytest.raises(ConfigError, match="from afar"):
        ConfigLayer(file).preview(settings)


def test_every_fixed_key_is_one_that_the_config_knows_or_will():
    assert {one.partition(".")[0] for one in FIXED} == {
        *("vehicle", "state", "identity", "provision", "jobs", "broker")
    }


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"sampling": {"normal": {"interval_s": "often"}}}, "interval_s"),
        ({"smapling": {}}, "sampling"),
        ({"can": {}}, "can"),
    ],
)
def test_keys_and_values_are_judged_as_in_the_file(file, settings, word):
    with pytest.raises(ConfigError, match=word):
        ConfigLayer(file).preview(settings)


def test_what_is_on_trial_counts_from_the_next_start_and_for_good_when_it_is_proven(file):
    tried(file)
    assert interval_s(ConfigLayer(file).file) == 2
    layer = ConfigLayer(file)
    settings = layer.begin()
    assert (interval_s(settings), settings.broker.host) == (5, "b.example.com")
    assert settings.broker.ca_file == file.parent / "ca.pem"
    assert layer.on_trial
    layer.confirm()
    again = ConfigLayer(file)
    assert interval_s(again.begin()) == 5
    assert not again.on_trial
    assert read_table(file)["sampling"]["normal"]["interval_s"] == 2, "the file is never written"


def test_a_trial_that_is_rolled_back_returns_to_what_was_proven_before(file):
    proven(file, {"sampling": {"normal": {"interval_s": 7}}})
    tried(file)
    layer = ConfigLayer(file)
    assert interval_s(layer.begin()) == 5
    layer.roll_back("no word from the broker")
    after = ConfigLayer(file)
    assert interval_s(after.begin()) == 7
    assert (after.record.failed_job, after.record.failure) == ("job-1", "no word from the broker")


def test_a_trial_that_nobody_confirms_is_over_after_some_starts(file):
    tried(file)
    for _ in range(MOST_STARTS):
        assert interval_s(ConfigLayer(file).begin()) == 5
    layer = ConfigLayer(file)
    assert interval_s(layer.begin()) == 2
    assert "started" in layer.record.failure


@pytest.mark.parametrize("job", ["gone", "another", "ended"])
def test_a_trial_without_its_job_at_work_is_over(file, job):
    tried(file)
    kept = Journal(file.parent / "state")
    if job == "gone":
        (file.parent / "state" / "jobs" / "current.json").unlink()
    elif job == "another":
        journal(file, "job-2")
    else:
        kept.save(kept.load().ended(JobStatus.FAILED, {}))
    assert interval_s(ConfigLayer(file).begin()) == 2


def test_a_start_that_fails_with_a_trial_rolls_it_back_and_one_without_changes_nothing(file):
    proven(file)
    with pytest.raises(ZeroDivisionError), ConfigLayer(file).guard():
        raise ZeroDivisionError
    assert interval_s(ConfigLayer(file).begin()) == 5
    tried(file, {"sampling": {"normal": {"interval_s": 9}}})
    layer = ConfigLayer(file)
    assert interval_s(layer.begin()) == 9
    with pytest.raises(ZeroDivisionError), layer.guard():
        raise ZeroDivisionError("no such bus")
    assert interval_s(ConfigLayer(file).begin()) == 5
    assert "no such bus" in ConfigLayer(file).record.failure


def test_a_file_edited_so_that_the_layer_no_longer_fits_counts_alone(file, caplog):
    proven(file, {"gps": {"device": ["/dev/ttyACM0"]}})
    file.write_text(FILE + '[gps]\nsource = "serial"\n')
    assert ConfigLayer(file).begin().gps.device == ()
    assert "do not fit the file" in caplog.text
    file.write_text(FILE)
    assert ConfigLayer(file).begin().gps.device == ("/dev/ttyACM0",)


def test_jobs_off_in_the_file_leaves_the_file_alone(file):
    proven(file)
    file.write_text(FILE + '[jobs]\nmode = "off"\n')
    assert interval_s(ConfigLayer(file).begin()) == 2
    assert ConfigLayer(file).account() is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 1, "layer": 5}', b"[" * 100_000],
    ids=range(6),
)
def test_a_damaged_layer_is_set_aside_and_the_file_counts(file, damage, caplog):
    path = file.parent / "state" / "config-layer.json"
    path.write_bytes(damage)
    assert interval_s(ConfigLayer(file).begin()) == 2
    assert path.with_name("config-layer.json.damaged").read_bytes() == damage
    assert "the config file alone counts" in caplog.text


# --- the operation -------------------------------------------------------------------


class FakeJob:
    """A job whose waiting passes at once."""

    def __init__(self, parameters, clock):
        self.job_id, self.parameters, self.state = "job-1", parameters, {}
        self.clock, self.ending, self.told = clock, None, []

    def remember(self, **state):
        self.state = state

    def tell(self, **details):
        self.told.append(details)

    def wait(self, duration_s):
        self.clock.advance(duration_s)
        return self.ending


class Bench:
    """The operation in one process after another."""

    def __init__(self, file):
        self.file, self.clock = file, FakeClock()
        self.reached = True
        self.checked = []
        self.job = FakeJob({"settings": SETTINGS}, self.clock)
        journal(file)
        self.process()

    def process(self):
        self.layer = ConfigLayer(self.file)
        self.settings = self.layer.begin()
        self.operation = ApplyConfigOperation(
            self.layer,
            check=self.checked.append,
            has_reached_broker=lambda: self.reached,
            monotonic_s=self.clock.monotonic_s,
        )


@pytest.fixture
def bench(file):
    return Bench(file)


def test_settings_are_proven_by_an_acknowledgement(bench):
    assert bench.operation.start(bench.job) is Unfinished.RESTART
    assert [interval_s(one) for one in bench.checked] == [5]
    bench.process()
    outcome = bench.operation.resume(bench.job)
    assert outcome.succeeded
    assert outcome.details == {"changed": "sampling.normal.interval_s, broker.host"}
    bench.process()
    assert interval_s(bench.settings) == 5
    assert not bench.layer.on_trial


def test_without_an_acknowledgement_in_time_they_are_rolled_back_and_the_job_fails(bench):
    bench.job.parameters["confirm_within_s"] = 60
    bench.operation.start(bench.job)
    bench.process()
    bench.reached = False
    before_s = bench.clock.monotonic_s()
    assert bench.operation.resume(bench.job) is Unfinished.RESTART
    assert 60 <= bench.clock.monotonic_s() - before_s <= 62
    bench.process()
    assert interval_s(bench.settings) == 2
    outcome = bench.operation.resume(bench.job)
    assert not outcome.succeeded
    assert outcome.details == {
        "reason": "the broker acknowledged nothing within 60 s",
        "settings": "rolled back",
    }


def test_a_stop_in_the_midst_goes_on_later_and_a_cancelled_job_is_undone(bench):
    bench.operation.start(bench.job)
    bench.process()
    bench.job.ending = Ending.STOPPING
    assert bench.operation.resume(bench.job) is Unfinished.LATER
    bench.process()
    assert interval_s(bench.settings) == 5
    bench.job.ending = Ending.CANCELED
    assert bench.operation.resume(bench.job) is Unfinished.RESTART
    bench.process()
    assert interval_s(bench.settings) == 2


def test_a_person_at_the_board_who_drops_settings_on_trial_fails_the_job(bench):
    bench.operation.start(bench.job)
    bench.process()
    ConfigLayer(bench.file).reset()
    outcome = bench.operation.resume(bench.job)
    assert not outcome.succeeded
    assert "dropped on the board" in outcome.details["reason"]
    bench.process()
    assert interval_s(bench.settings) == 2


def test_a_cut_before_the_trial_was_kept_begins_again(bench):
    bench.job.remember(step="trial")
    bench.process()
    assert bench.operation.resume(bench.job) is Unfinished.RESTART
    bench.process()
    assert interval_s(bench.settings) == 5


def test_what_the_settings_name_is_looked_at_before_anything_changes(bench):
    def no_such_file(_):
        raise ConfigError("can.dbc: there is no file")

    bench.operation._check = no_such_file
    outcome = bench.operation.start(bench.job)
    assert (outcome.succeeded, outcome.details["reason"]) == (False, "can.dbc: there is no file")
    assert bench.layer.record.trial is None


def test_an_empty_table_leaves_the_file_alone_again(bench):
    proven(bench.file)
    journal(bench.file)
    bench.job.parameters = {"settings": {}}
    bench.process()
    bench.operation.start(bench.job)
    bench.process()
    assert bench.operation.resume(bench.job).succeeded
    bench.process()
    assert interval_s(bench.settings) == 2


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({}, "settings"),
        ({"settings": []}, "settings"),
        ({"settings": {}, "more": 1}, "more"),
        ({"settings": {}, "confirm_within_s": "5"}, "number"),
        ({"settings": {}, "confirm_within_s": True}, "number"),
        ({"settings": {}, "confirm_within_s": 5}, "30"),
        ({"settings": {"vehicle": {"id": "x"}}}, "afar"),
        ({"settings": {"sampling": 5}}, "sampling"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_refused_before_it_begins(bench, parameters, word):
    with pytest.raises(JobRefusedError, match=word):
        bench.operation.check(parameters)


# --- the command ---------------------------------------------------------------------


def run(*words, file, code=0):
    done = CliRunner().invoke(cli, ["config", *words, "--config", str(file)])
    assert done.exit_code == code, done.output
    return done.output


def test_show_says_where_each_setting_comes_from_and_reset_goes_back(file):
    proven(file)
    (file.parent / "state" / "shadow.json").write_text(
        json.dumps(
            {
                "format": 1,
                "desired": {"outbox": {"max_mb": 32}},
                "version": 3,
                "accepted": {"outbox": {"max_mb": 32}},
            }
        )
    )
    lines = run("show", file=file).splitlines()
    found = {line.split()[-2]: line for line in lines if "  " in line}
    assert "job job-0" in found["sampling.normal.interval_s"]
    assert found["vehicle.id"].startswith("file")
    assert found["outbox.max_mb"].startswith("shadow")
    assert "outbox.max_age_days" not in found
    assert "config reset" in lines[-1]
    everything = json.loads(run("show", "--all", "--json", file=file))
    origins = {one["key"]: one["origin"] for one in everything}
    assert origins["outbox.max_age_days"] == "default"
    assert origins["j1939"] == "file"
    assert "job-0" in run("reset", file=file)
    assert "job-0" not in run("show", file=file)
    assert "Nothing" in run("reset", file=file)


def test_show_says_what_was_rolled_back(file):
    tried(file)
    assert "on trial" in run("show", file=file)
    ConfigLayer(file).roll_back("no word")
    assert "job-1 were rolled back: no word" in run("show", file=file)
