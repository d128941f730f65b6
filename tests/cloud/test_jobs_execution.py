"""The state machine of a job's execution, and what vehicles may ask."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.errors import JobsError
from cloud.jobs.execution import ALLOWED, By, Execution, next_of, pending
from cloud.jobs.requests import Request, parse_request
from contract.jobs import JobStatus

S = JobStatus
QUEUED = Execution(
    job_id="job-1", vehicle_id="van-1", document="{}", queued_s=1_000, updated_s=1_000
)
every_status = st.sampled_from(list(S))
every_party = st.sampled_from(list(By))
steps = st.lists(
    st.tuples(every_status, every_party, st.integers(0, 100), st.sampled_from([None, -1, 1, 5])),
    max_size=20,
)


@given(steps)
def test_a_refused_change_changes_nothing_and_an_end_is_for_ever(path):
    one, now_s = QUEUED, QUEUED.queued_s
    for status, by, passed_s, minutes in path:
        now_s += passed_s
        if status not in ALLOWED.get((one.status, by), set()):
            with pytest.raises(JobsError) as refused:
                one.changed(status, by, now_s, step_timeout_minutes=minutes)
            assert (refused.value.code, refused.value.state) == ("InvalidStateTransition", one)
            continue
        after = one.changed(status, by, now_s, step_timeout_minutes=minutes)
        assert not one.status.is_terminal
        assert (after.version, after.status) == (one.version + 1, status)
        assert after.updated_s == now_s
        if one.started_s is not None:
            assert after.started_s == one.started_s
        if status.is_terminal:
            assert after.until_s is None
        one = after


@given(every_status, every_status, every_party)
def test_nobody_leaves_an_end_and_only_the_cloud_cancels_or_times_out(before, after, by):
    allowed = after in ALLOWED.get((before, by), set())
    if before.is_terminal:
        assert not allowed
    if after in {S.CANCELED, S.REMOVED, S.TIMED_OUT, S.QUEUED}:
        assert not (allowed and by is By.VEHICLE)
    if after is S.TIMED_OUT:
        assert allowed == (before is S.IN_PROGRESS and by is By.TIMER)


def test_the_earlier_of_the_two_timers_counts_and_an_update_winds_up_the_vehicles_own():
    job = replace(QUEUED, timeout_minutes=10)
    assert job.until_s is None
    job = job.changed(S.IN_PROGRESS, By.VEHICLE, 2_000, step_timeout_minutes=2)
    assert job.until_s == 2_000 + 2 * 60
    job = job.changed(S.IN_PROGRESS, By.VEHICLE, 2_060, step_timeout_minutes=5)
    assert job.until_s == 2_060 + 5 * 60
    job = job.changed(S.IN_PROGRESS, By.VEHICLE, 2_100)
    assert job.until_s == 2_060 + 5 * 60
    job = job.changed(S.IN_PROGRESS, By.VEHICLE, 2_100, step_timeout_minutes=100)
    assert job.until_s == 2_000 + 10 * 60
    job = job.changed(S.IN_PROGRESS, By.VEHICLE, 2_100, step_timeout_minutes=-1)
    assert job.until_s == 2_000 + 10 * 60
    assert replace(job, timeout_minutes=None).until_s is None


def test_details_that_an_update_does_not_mention_stay():
    job = QUEUED.changed(S.IN_PROGRESS, By.VEHICLE, 2_000, details={"step": "a"})
    assert job.changed(S.IN_PROGRESS, By.VEHICLE, 2_001).details == {"step": "a"}
    assert job.changed(S.SUCCEEDED, By.VEHICLE, 2_001, details={}).details == {}


def test_next_is_the_one_in_progress_else_the_oldest():
    a, b, c = (replace(QUEUED, job_id=name) for name in "abc")
    assert next_of([a, b, c]) is a
    begun = b.changed(S.IN_PROGRESS, By.VEHICLE, 2_000)
    ended = a.changed(S.REJECTED, By.VEHICLE, 2_000)
    assert pending([a, begun, c]) == [begun, a, c]
    assert pending([ended, b, c]) == [b, c]
    assert next_of([ended]) is None


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"\xff", "InvalidJson"),
        (b"{", "InvalidJson"),
        (b'{"a": NaN}', "InvalidJson"),
        (b"[" * 100_000, "InvalidJson"),
        (b"[]", "InvalidRequest"),
        ({}, "InvalidRequest"),
        ({"status": "CANCELED"}, "InvalidRequest"),
        ({"status": "QUEUED"}, "InvalidRequest"),
        ({"status": ["IN_PROGRESS"]}, "InvalidRequest"),
        ({"statusDetails": []}, "InvalidRequest"),
        ({"statusDetails": {"a": 1}}, "InvalidRequest"),
        ({"statusDetails": {"a": ""}}, "InvalidRequest"),
        ({"statusDetails": {"a b": "c"}}, "InvalidRequest"),
        ({"statusDetails": {"a": "b\nc"}}, "InvalidRequest"),
        ({"statusDetails": {"a": "b" * 1_025}}, "InvalidRequest"),
        ({"statusDetails": {str(n): "b" for n in range(11)}}, "InvalidRequest"),
        ({"expectedVersion": -1}, "InvalidRequest"),
        ({"expectedVersion": True}, "InvalidRequest"),
        ({"expectedVersion": 1.5}, "InvalidRequest"),
        ({"expectedVersion": "x"}, "InvalidRequest"),
        ({"executionNumber": 2**70}, "InvalidRequest"),
        ({"stepTimeoutInMinutes": 0}, "InvalidRequest"),
        ({"stepTimeoutInMinutes": 10_081}, "InvalidRequest"),
        ({"includeJobDocument": 1}, "InvalidRequest"),
        ({"clientToken": "x" * 65}, "InvalidRequest"),
        ({"clientToken": 5}, "InvalidRequest"),
    ],
    ids=lambda one: str(one)[:50],
)
def test_what_is_no_update_is_refused_with_the_services_word_for_it(document, code):
    if isinstance(document, dict):
        status = {"status": "IN_PROGRESS"} if document else {}
        document = json.dumps({**status, **document}).encode()
    with pytest.raises(JobsError) as refused:
        parse_request(document, is_update=True)
    assert refused.value.code == code


def test_an_update_is_read_as_it_was_written():
    document = {
        "status": "FAILED",
        "statusDetails": {"reason": "ü no room"},
        "expectedVersion": "3",
        "executionNumber": 1,
        "includeJobExecutionState": True,
        "stepTimeoutInMinutes": -1,
        "clientToken": "t",
        "unknown": {},
    }
    assert parse_request(json.dumps(document).encode(), is_update=True) == Request(
        status=S.FAILED,
        details={"reason": "ü no room"},
        expected_version=3,
        execution_number=1,
        step_timeout_minutes=-1,
        wants_state=True,
        client_token="t",
    )
    assert parse_request(b"") == Request()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_that_are_no_request_are_refused_in_the_services_words(payload):
    with pytest.raises(JobsError) as refused:
        parse_request(payload, is_update=True)
    assert refused.value.code in {"InvalidJson", "InvalidRequest"}
