"""What may be asked for from afar, and what is remembered of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.live import LEAST, LIVE, live_values
from agent.config.load import AgentSettings
from agent.shadow.desired import judge
from agent.shadow.record import FILE_NAME, Record, load, save
from agent.shadow.remote import RemoteSettings
from tests.fakes.shadow_pair import file_settings


@pytest.fixture
def file(tmp_path):
    return file_settings(tmp_path, delivery={"batch_s": 3})


def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_live_key_is_a_key_of_the_settings(file):
    assert set(flat(live_values(file))) == LIVE
    assert LEAST.keys() <= LIVE


def test_what_would_cut_the_vehicle_off_is_not_live():
    sections = set(AgentSettings.model_fields) - {"sampling", "outbox", "delivery", "budget"}
    assert not {key for key in LIVE if key.partition(".")[0] in sections}


def test_what_is_asked_for_lies_over_the_files_values(file):
    desired = {
        "sampling": {"normal": {"interval_s": 0.5}, "thresholds": {"parked_dwell_s": 30}},
        "delivery": {"max_bytes_per_s": 50_000},
        "budget": {"data_mb_per_day": 20},
    }
    verdict = judge(file, desired, {})
    assert verdict.refused == {}
    assert verdict.accepted == desired
    settings = verdict.settings
    assert settings.sampling.normal.interval_s == 0.5
    assert settings.sampling.thresholds.parked_dwell_s == 30
    assert settings.delivery.max_bytes_per_s == 50_000
    assert settings.delivery.batch_s == 3, "the file's"
    assert settings.budget.data_mb_per_day == 20
    assert settings.broker == file.broker


# what is asked for, the section that is refused, words of the reason
REFUSED = [
    ({"sampling": {"normal": {"interval_s": -1}}}, "sampling", ["normal.interval_s = -1", "0.05"]),
    ({"sampling": {"normal": {"interval_s": "1"}}}, "sampling", ['interval_s = "1"', "number"]),
    ({"sampling": {"normal": {"interval_s": True}}}, "sampling", ["interval_s = True"]),
    ({"sampling": {"normal": {"interval_s": None}}}, "sampling", ["interval_s = None"]),
    ({"sampling": {"normal": {"interval_s": [1]}}}, "sampling", ["sampling.normal.interval_s"]),
    ({"sampling": {"normal": {"interval_s": {"s": 1}}}}, "sampling", ["normal.interval_s"]),
    ({"sampling": {"normal": 5}}, "sampling", ["sampling.normal = 5"]),
    ({"sampling": 5}, "sampling", ["sampling = 5"]),
    (
        {"sampling": {"normal": {"intervall_s": 1}}},
        "sampling",
        ["unknown key", 'did you mean "sampling.normal.interval_s"?'],
    ),
    ({"sampling": {"thresholds": {"trip_leave_speed_kmh": 9}}}, "sampling", ["must be below"]),
    ({"sampling": {"thresholds": {"trip_resume_s": 1}}}, "sampling", ["from afar"]),
    ({"delivery": {"max_publishes_per_s": 0.5}}, "delivery", ["= 0.5", "at least 1"]),
    ({"delivery": {"in_flight": 1}}, "delivery", ["delivery.in_flight", "from afar"]),
    ({"broker": {"host": "evil.example"}}, "broker", ["broker", "from afar"]),
    ({"vehicle": {"id": "van-2"}}, "vehicle", ["from afar"]),
    ({"smpling": {}}, "smpling", ["unknown key", 'did you mean "sampling"?']),
    ({"__class__": {}}, "__class__", ["unknown key"]),
    ({"can": [{"channel": "vcan0"}]}, "can", ["from afar"]),
]


@pytest.mark.parametrize(("desired", "section", "words"), REFUSED)
def test_a_bad_section_is_refused_with_the_reason_and_the_others_are_taken(
    file, desired, section, words
):
    good = {"outbox": {"max_mb": 64}, "budget": {"near_percent": 50}}
    verdict = judge(file, {**good, **desired}, {})
    assert verdict.accepted == good
    assert list(verdict.refused) == [section]
    for word in words:
        assert word in verdict.refused[section]
    assert verdict.settings == judge(file, good, {}).settings


def test_a_refused_section_keeps_what_was_in_force(file):
    before = {"sampling": {"normal": {"interval_s": 0.5}}}
    verdict = judge(file, {"sampling": {"normal": {"interval_s": 0}}}, before)
    assert verdict.settings.sampling.normal.interval_s == 0.5
    assert verdict.accepted == before
    assert "interval_s = 0" in verdict.refused["sampling"]


def test_a_key_that_is_no_longer_asked_for_has_the_files_value_again(file):
    before = {"delivery": {"batch_s": 9}, "sampling": {"normal": {"interval_s": 0.5}}}
    verdict = judge(file, {"delivery": {"max_bytes_per_s": 5000}}, before)
    assert verdict.settings.delivery.batch_s == 3
    assert verdict.settings.sampling == file.sampling


def deep(levels):
    tree = 1
    for _ in range(levels):
        tree = {"a": tree}
    return tree


@pytest.mark.parametrize(
    "desired",
    [5, None, [], "x", {"a": "x" * 20_000}, {"a": float("nan")}, deep(100_000)],
    ids=["number", "null", "list", "text", "huge", "nan", "deep"],
)
def test_a_document_that_is_none_changes_nothing(file, desired):
    before = {"delivery": {"batch_s": 9}}
    verdict = judge(file, desired, before)
    assert list(verdict.refused) == ["desired"]
    assert (verdict.accepted, verdict.settings.delivery.batch_s) == (before, 9)


def test_reasons_stay_small_whatever_is_asked_for(file):
    desired = {f"{n:03}" + "x" * 100: {"y" * 50: 1} for n in range(80)}
    refused = judge(file, desired, {}).refused
    assert len(json.dumps(refused)) < 3000
    assert refused["..."] == "73 more"


names = st.sampled_from(
    ["sampling", "normal", "interval_s", "delivery", "batch_s", "outbox", "broker", "host", "x"]
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=10,
)


@given(anything)
def test_whatever_is_asked_for_the_settings_are_valid_and_the_rest_is_the_files(desired):
    from pathlib import Path  # noqa: PLC0415  hypothesis takes no function's fixtures

    file = file_settings(Path("/tmp"))
    verdict = judge(file, desired, {})
    assert AgentSettings.model_validate(dict(verdict.settings)) == verdict.settings
    changed = set(flat(verdict.accepted))
    assert changed <= LIVE
    before, after = live_values(file), live_values(verdict.settings)
    assert verdict.settings.model_copy(update={k: getattr(file, k) for k in before}) == file
    for section in before:
        if section not in verdict.accepted:
            assert after[section] == before[section]


# --- remembered --------------------------------------------------------------------------


def test_what_was_accepted_is_in_force_after_a_restart_without_a_network(tmp_path):
    file = file_settings(tmp_path)
    first = RemoteSettings(file, tmp_path)
    first.desire({"delivery": {"batch_s": 9}, "outbox": {"max_mb": -1}}, 7)
    again = RemoteSettings(file, tmp_path)
    assert again.settings == first.settings
    assert again.settings.delivery.batch_s == 9
    assert again.report() == first.report()
    assert "max_mb" in again.report()["refused"]["outbox"]
    assert again.report()["desired_version"] == 7


def test_the_config_file_counts_for_whatever_the_shadow_does_not_ask_for(tmp_path):
    RemoteSettings(file_settings(tmp_path), tmp_path).desire({"delivery": {"batch_s": 9}}, 7)
    edited = file_settings(
        tmp_path, delivery={"batch_s": 1, "max_bytes_per_s": 9000}, outbox={"max_mb": 5}
    )
    settings = RemoteSettings(edited, tmp_path).settings
    assert settings.delivery.batch_s == 9
    assert settings.delivery.max_bytes_per_s == 9000
    assert settings.outbox.max_mb == 5


def test_what_a_changed_config_file_makes_impossible_is_refused_at_the_start(tmp_path):
    asked = {"sampling": {"thresholds": {"trip_leave_speed_kmh": 4}}}
    RemoteSettings(file_settings(tmp_path), tmp_path).desire(asked, 7)
    edited = file_settings(
        tmp_path,
        sampling={"thresholds": {"trip_enter_speed_kmh": 3, "trip_leave_speed_kmh": 1}},
    )
    remote = RemoteSettings(edited, tmp_path)
    assert remote.settings == edited
    assert "must be below" in remote.report()["refused"]["sampling"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1, "desired": {}, "version": "7", "accepted": {}}',
        b'{"format": 1, "desired": {}, "version": 7, "accepted": {"delivery": 1}}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_a_damaged_record_is_set_aside_and_said(tmp_path, content, caplog):
    (tmp_path / FILE_NAME).write_bytes(content)
    assert load(tmp_path) == Record()
    assert "damaged" in caplog.text
    assert (tmp_path / (FILE_NAME + ".damaged")).read_bytes() == content
    assert load(tmp_path) == Record()


def test_a_record_of_nonsense_changes_nothing(tmp_path):
    save(tmp_path, Record({"delivery": {"batch_s": -5}}, 7, {"broker": {"host": "x"}}))
    file = file_settings(tmp_path)
    assert RemoteSettings(file, tmp_path).settings == file


def test_a_disk_that_takes_nothing_leaves_the_settings_in_force(tmp_path, caplog):
    file = file_settings(tmp_path)
    remote = RemoteSettings(file, tmp_path / "gone")
    remote.desire({"delivery": {"batch_s": 9}}, 7)
    assert remote.settings.delivery.batch_s == 9
    assert "will not survive a restart" in caplog.text
