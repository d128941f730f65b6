"""The alert life cycle: open once, tell, resolve; late, doubled and failing data."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.areas import NO_AREAS
from cloud.handlers import detect_anomalies
from cloud.handlers.conditions import Observation, advance, unevaluated
from cloud.ports import AlertKind
from tests.fakes import kinesis
from tests.fakes.kinesis import Flaky, failed, lambda_event, selected

START = datetime(2025, 1, 15, 14, 0, 0, tzinfo=UTC)
INSIDE, OUTSIDE, FAR = 50.1, 50.2005, 50.3  # the area ends at 50.2; 0.0005 degrees are 56 m


def stamp(second):
    moment = START + timedelta(seconds=second)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def battery(second, percent, charging=None, sequence=None):
    group = {"percent": percent, "charging": charging}
    group = {key: value for key, value in group.items() if value is not None}
    return kinesis.sample(sequence=sequence or second + 1, timestamp=stamp(second), battery=group)


def fix(second, lat, **more):
    return kinesis.sample(
        sequence=second + 1, timestamp=stamp(second), location=kinesis.at(lat, 8.7, **more)
    )


def feed(installation, *rows, handle=None):
    handle = handle or detect_anomalies.build(installation.stores)
    return failed(handle(lambda_event(*map(selected, rows)), None))


def test_a_low_battery_opens_one_alert_and_recovery_resolves_it(installation):
    feed(installation, battery(0, 50), battery(1, 14.9), battery(2, 14))
    feed(installation, battery(3, 13), battery(4, 15.5), battery(5, 19.9))
    assert installation.told() == ["battery_low opened"]
    opened = installation.stores.alerts.condition("van-1", AlertKind.BATTERY_LOW)
    alert = installation.stores.alerts.alert("van-1", opened.alert_id)
    assert alert.opened_at == START + timedelta(seconds=1)
    assert alert.detail == "14.9 %"
    feed(installation, battery(6, 20))
    assert installation.told() == ["battery_low opened", "battery_low resolved"]
    alert = installation.stores.alerts.alert("van-1", opened.alert_id)
    assert alert.resolved_at == START + timedelta(seconds=6)
    feed(installation, battery(7, 14))
    assert installation.told()[2:] == ["battery_low opened"]
    again = installation.stores.alerts.condition("van-1", AlertKind.BATTERY_LOW)
    assert again.alert_id != opened.alert_id


def test_a_charging_battery_is_not_low_and_charging_resolves(installation):
    feed(installation, battery(0, 5, charging=True))
    assert installation.told() == []
    feed(installation, battery(1, 5, charging=False))
    feed(installation, battery(2, None, charging=True))
    assert installation.told() == ["battery_low opened", "battery_low resolved"]


def test_late_data_does_not_change_the_state(installation):
    feed(installation, battery(100, 50))
    feed(installation, battery(50, 5))
    assert installation.told() == []
    feed(installation, battery(101, 5), battery(60, 90))
    assert installation.told() == ["battery_low opened"]
    feed(installation, battery(99, 90))
    assert installation.told() == ["battery_low opened"]


def test_samples_of_one_event_are_taken_in_the_order_of_their_time(installation):
    feed(installation, battery(10, 50), battery(5, 5), battery(1, 50))
    assert installation.told() == ["battery_low opened", "battery_low resolved"]


def test_three_fixes_outside_open_and_three_inside_resolve(installation):
    feed(installation, fix(0, OUTSIDE), fix(1, OUTSIDE))
    assert installation.told() == []
    feed(installation, fix(2, OUTSIDE))
    assert installation.told() == ["outside_operating_area opened"]
    feed(installation, fix(3, INSIDE), fix(4, INSIDE), fix(5, OUTSIDE), fix(6, INSIDE))
    assert installation.told() == ["outside_operating_area opened"]
    feed(installation, fix(7, INSIDE), fix(8, INSIDE))
    assert installation.told() == [
        "outside_operating_area opened",
        "outside_operating_area resolved",
    ]


def test_a_single_jump_out_does_not_alert(installation):
    rows = [fix(n, FAR if n % 3 == 0 else INSIDE) for n in range(30)]
    feed(installation, *rows)
    assert installation.told() == []


def test_within_the_band_or_the_fixes_own_accuracy_nothing_changes(installation):
    feed(installation, *(fix(n, 50.2001) for n in range(5)))
    feed(installation, *(fix(n, OUTSIDE, accuracy=80.0) for n in range(5, 10)))
    assert installation.told() == []
    feed(installation, *(fix(n, OUTSIDE, accuracy=10.0) for n in range(10, 13)))
    feed(installation, *(fix(n, 50.2001) for n in range(13, 20)))
    assert installation.told() == ["outside_operating_area opened"]


def test_a_stale_fix_repeated_counts_once(installation):
    rows = [fix(n, FAR, fix_time=stamp(0)) for n in range(10)]
    feed(installation, *rows)
    assert installation.told() == []


def test_without_an_area_nothing_is_checked_and_an_open_alert_ends(on_one_machine):
    feed(on_one_machine, *(fix(n, FAR) for n in range(3)))
    assert on_one_machine.told() == ["outside_operating_area opened"]
    none = detect_anomalies.build(replace(on_one_machine.stores, areas=NO_AREAS))
    feed(on_one_machine, *(fix(n, FAR) for n in range(3, 6)), handle=none)
    assert on_one_machine.told()[1:] == ["outside_operating_area resolved"]


def test_vehicles_do_not_touch_each_other(installation):
    rows = [{**battery(0, 5), "vehicle_id": name} for name in ("van-1", "van-2")]
    feed(installation, *rows)
    assert installation.told() == ["battery_low opened"] * 2
    one, two = (
        installation.stores.alerts.condition(name, AlertKind.BATTERY_LOW)
        for name in ("van-1", "van-2")
    )
    assert one.alert_id != two.alert_id


def test_a_failed_notifier_is_made_up_for_even_by_late_data(installation):
    notifier = Flaky(installation.stores.notifier, broken=True)
    handle = detect_anomalies.build(replace(installation.stores, notifier=notifier))
    assert feed(installation, battery(0, 50), battery(1, 5), handle=handle) == [kinesis.number(0)]
    assert installation.told() == []
    notifier.broken = False
    assert feed(installation, battery(0, 50), battery(1, 5), handle=handle) == []
    assert installation.told() == ["battery_low opened"]
    assert feed(installation, battery(0, 50), handle=handle) == []
    assert installation.told() == ["battery_low opened"]


def test_a_resolution_that_nobody_heard_is_told_again(installation):
    notifier = Flaky(installation.stores.notifier)
    handle = detect_anomalies.build(replace(installation.stores, notifier=notifier))
    feed(installation, battery(0, 5), handle=handle)
    notifier.broken = True
    assert feed(installation, battery(1, 60), handle=handle)
    notifier.broken = False
    assert feed(installation, battery(2, 60), handle=handle) == []
    assert installation.told() == ["battery_low opened", "battery_low resolved"]


def test_one_vehicles_failure_brings_only_its_own_records_again(installation):
    class FailsForOne(Flaky):
        def condition(self, vehicle_id, kind):
            self.broken = vehicle_id == "van-1"
            return self.__getattr__("condition")(vehicle_id, kind)

    alerts = FailsForOne(installation.stores.alerts)
    handle = detect_anomalies.build(replace(installation.stores, alerts=alerts))
    rows = [{**battery(0, 5), "vehicle_id": "van-2"}, battery(0, 5)]
    assert feed(installation, *rows, handle=handle) == [kinesis.number(1)]
    assert installation.told() == ["battery_low opened"]


def test_areas_that_cannot_be_read_bring_the_records_again(installation):
    areas = Flaky(installation.stores.areas, broken=True)
    handle = detect_anomalies.build(replace(installation.stores, areas=areas))
    assert feed(installation, battery(0, 5), handle=handle) == [kinesis.number(0)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([True, False, None])), max_size=40),
    st.integers(1, 4),
)
def test_the_state_changes_only_after_enough_agreement_and_never_by_late_data(seen, needed):
    condition = unevaluated("van-1", AlertKind.BATTERY_LOW)
    against = 0
    for second, raised in seen:
        before = condition
        at = START + timedelta(seconds=second)
        condition, changed = advance(condition, Observation(at, raised), needed)
        if at <= before.evaluated_at:
            assert condition == before
            assert not changed
            continue
        against = against + 1 if raised is not None and raised != before.raised else 0
        assert changed == (against == needed)
        assert condition.raised == (before.raised != changed)
        assert condition.evaluated_at == at
        against = 0 if changed else against


@pytest.mark.parametrize("split", range(1, 6))
def test_how_the_stream_is_cut_into_events_does_not_matter(on_one_machine, split):
    lats = [INSIDE, FAR, FAR, FAR, FAR, INSIDE, INSIDE, INSIDE, FAR, FAR]
    rows = [fix(n, lat) for n, lat in enumerate(lats)]
    for start in range(0, len(rows), split):
        feed(on_one_machine, *rows[start : start + split])
    ids = on_one_machine.stores.database.read("SELECT opened_ms, resolved_ms FROM alerts")
    offset = int(START.timestamp()) * 1000
    assert ids == [(offset + 3_000, offset + 7_000)]
