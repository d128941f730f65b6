"""Topics and documents of jobs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ContractError
from contract.jobs import (
    MAX_DETAIL_VALUE,
    MAX_DETAILS,
    MAX_DOCUMENT_BYTES,
    NEXT,
    JobAction,
    JobDocument,
    JobRequest,
    JobTopics,
    details,
    parse_document,
)

VAN = JobTopics("van-1")
GOOD = {"schema_version": 1, "operation": "restart", "parameters": {}}


@pytest.mark.parametrize(
    ("topic", "request_"),
    [
        ("$aws/things/van-1/jobs/get", JobRequest(JobAction.GET_PENDING)),
        ("$aws/things/van-1/jobs/start-next", JobRequest(JobAction.START_NEXT)),
        ("$aws/things/van-1/jobs/$next/get", JobRequest(JobAction.DESCRIBE, NEXT)),
        ("$aws/things/van-1/jobs/a_1-b/get", JobRequest(JobAction.DESCRIBE, "a_1-b")),
        ("$aws/things/van-1/jobs/a_1-b/update", JobRequest(JobAction.UPDATE, "a_1-b")),
        ("$aws/things/van-1/jobs/$next/update", None),
        ("$aws/things/van-1/jobs/a b/update", None),
        ("$aws/things/van-1/jobs/a/b/update", None),
        ("$aws/things/van-2/jobs/get", None),
        ("$aws/things/van-1/jobs/notify", None),
        ("$aws/things/van-1/jobs/get/accepted", None),
        (f"$aws/things/van-1/jobs/{'a' * 65}/get", None),
    ],
)
def test_a_topic_is_a_request_or_none(topic, request_):
    assert VAN.parse(topic) == request_


@pytest.mark.parametrize(
    ("topic_filter", "allowed"),
    [
        ("$aws/things/van-1/jobs/notify-next", True),
        ("$aws/things/van-1/jobs/start-next/accepted", True),
        ("$aws/things/van-1/jobs/$next/get/rejected", True),
        ("$aws/things/van-1/jobs/+/update/accepted", True),
        ("$aws/things/van-1/jobs/a-1/update/rejected", True),
        ("$aws/things/+/jobs/a-1/update/rejected", False),
        ("$aws/things/van-2/jobs/notify", False),
        ("$aws/things/van-1/jobs/#", False),
        ("$aws/things/van-1/jobs/+/+/accepted", False),
        ("$aws/things/van-1/jobs/a-1/update", False),
    ],
)
def test_a_vehicle_may_hear_only_of_its_own_jobs(topic_filter, allowed):
    assert VAN.may_hear(topic_filter) is allowed


@pytest.mark.parametrize("form", [lambda d: d, json.dumps], ids=["object", "text"])
def test_a_document_is_read_as_it_was_written(form):
    document = JobDocument("apply-config", {"settings": {"log": {"level": "debug"}}})
    assert parse_document(form(document.to_json())) == document


def deep(levels):
    value = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "",
        "{",
        "[" * 100_000,
        {**GOOD, "schema_version": 2},
        {**GOOD, "schema_version": True},
        {**GOOD, "schema_version": "1"},
        {"operation": "restart"},
        {**GOOD, "operation": None},
        {**GOOD, "operation": "rm -rf /"},
        {**GOOD, "operation": "a" * 65},
        {**GOOD, "parameters": []},
        {**GOOD, "parameters": deep(50)},
        {**GOOD, "parameters": {"x": float("inf")}},
        {**GOOD, "parameters": {"x": "y" * 3 * MAX_DOCUMENT_BYTES}},
        json.dumps({**GOOD, "parameters": {"x": "y" * MAX_DOCUMENT_BYTES}}),
    ],
    ids=lambda one: str(one)[:40],
)
def test_what_is_no_job_document_is_refused_with_the_contracts_error(document):
    with pytest.raises(ContractError):
        parse_document(document)


def test_an_unknown_operation_can_be_read_so_that_the_vehicle_can_say_that_it_does_not_know_it():
    assert parse_document({**GOOD, "operation": "make-tea"}).operation == "make-tea"


@given(st.dictionaries(st.text(max_size=200), st.text(max_size=2_000), max_size=20))
def test_details_always_fit_what_the_service_takes(values):
    told = details(values)
    assert len(told) <= MAX_DETAILS
    for key, value in told.items():
        assert key.isascii()
        assert 1 <= len(key) <= 128
        assert 1 <= len(value) <= MAX_DETAIL_VALUE
        assert value.isprintable()
