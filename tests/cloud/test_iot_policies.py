"""What the template's IoT policies allow, tried on every topic that the contract knows."""

import re

import pytest

from contract import MessageKind, Topics
from contract.jobs import NEXT, JobTopics
from contract.provisioning import (
    BY_CLAIM,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    ProvisioningTopics,
    accepted,
    rejected,
)
from contract.shadow import ShadowAction, ShadowTopics
from tests.fakes.iot_policies import THING, as_list, claim, document, size, vehicle

POLICIES = ("VehiclePolicy", "VehicleServicesPolicy", "ClaimPolicy")
MAX_CHARACTERS = 2048
ANYBODY_S = ("$aws/certificates/", "$aws/provisioning-templates/")
"""Reserved topics that name no thing; AWS IoT answers on them to the asking connection alone."""


def messages(vehicle_id):
    return {
        Topics(vehicle_id, way).topic(kind) for way in (None, "milepost") for kind in MessageKind
    }


def service_requests(vehicle_id):
    shadow, jobs = ShadowTopics(vehicle_id), JobTopics(vehicle_id)
    return {
        shadow.request(ShadowAction.GET),
        shadow.request(ShadowAction.UPDATE),
        jobs.get,
        jobs.start_next,
        jobs.get_job(NEXT),
        jobs.get_job("update-7"),
        jobs.update("update-7"),
    }


def service_answers(vehicle_id):
    jobs = JobTopics(vehicle_id)
    asked = (jobs.get, jobs.start_next, jobs.get_job(NEXT), jobs.update("update-7"))
    return {
        *ShadowTopics(vehicle_id).answers(),
        *(answer(topic) for topic in asked for answer in (accepted, rejected)),
        jobs.notify,
        jobs.notify_next,
    }


def provisioning_requests(template, creation=CREATE_FROM_CSR):
    return {creation, ProvisioningTopics(template).register}


def answers(topics):
    return {answer(topic) for topic in topics for answer in (accepted, rejected)}


EVERYTHING = sorted(
    {
        *messages("van-1"),
        *service_requests("van-1"),
        *service_answers("van-1"),
        *provisioning_requests(BY_CLAIM),
        *provisioning_requests(ROTATION, CREATE_KEYS),
        *answers(provisioning_requests(BY_CLAIM)),
        *answers(provisioning_requests(ROTATION, CREATE_KEYS)),
        *("telemetry/+", "telemetry/#", "status/+", "#", "+/van-1", "$aws/things/+/jobs/notify"),
        *("$share/all/telemetry/van-1", "$SYS/#", "$aws/#", "$aws/events/presence/connected/+"),
    }
)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("prefix", ["milepost", "a" * 27], ids=["usual", "longest"])
def test_a_policy_has_no_more_characters_than_aws_takes(policy, prefix):
    assert 600 < size(document(policy, RulePrefix=prefix)) <= MAX_CHARACTERS


@pytest.mark.parametrize("policy", ["VehiclePolicy", "VehicleServicesPolicy"])
def test_every_resource_of_a_vehicle_names_its_own_thing_or_nobody(policy):
    for statement in document(policy)["Statement"]:
        for resource in as_list(statement["Resource"]):
            name = re.sub(r"^arn:aws:iot:[^:]+:\d+:(client|topic|topicfilter)/", "", resource)
            assert name != resource
            if not name.startswith(ANYBODY_S):
                assert name.count(THING) == 1
                assert "*" not in name.partition(THING)[0], "nothing but its own is below a star"


def test_a_vehicle_reaches_all_that_the_agent_uses():
    van = vehicle("van-1")
    own = ProvisioningTopics(ROTATION)
    assert van.may("iot:Connect", "van-1")
    assert van.may("iot:RetainPublish", "status/van-1")
    asks = messages("van-1") | service_requests("van-1") | {CREATE_FROM_CSR, own.register}
    assert [topic for topic in sorted(asks) if not van.may("iot:Publish", topic)] == []
    hears = service_answers("van-1") | answers({CREATE_FROM_CSR, own.register})
    for action in ("iot:Subscribe", "iot:Receive"):
        assert [topic for topic in sorted(hears) if not van.may(action, topic)] == []
    assert van.may("iot:Subscribe", JobTopics("van-1").update("+") + "/accepted")


def test_a_vehicle_may_publish_nothing_else():
    van = vehicle("van-1")
    allowed = {topic for topic in EVERYTHING if van.may("iot:Publish", topic)}
    own = ProvisioningTopics(ROTATION).register
    assert allowed == messages("van-1") | service_requests("van-1") | {CREATE_FROM_CSR, own}


def test_a_vehicle_hears_nothing_but_its_services_answers():
    van = vehicle("van-1")
    own = ProvisioningTopics(ROTATION).register
    expected = service_answers("van-1") | answers({CREATE_FROM_CSR, own})
    expected |= service_requests("van-1")  # they lie below the stars of its shadow and its jobs
    for action in ("iot:Subscribe", "iot:Receive"):
        assert {topic for topic in EVERYTHING if van.may(action, topic)} == expected


@pytest.mark.parametrize("other", ["van-2", "van-11", "van-", "an-1", "VAN-1"])
def test_a_vehicle_reaches_nothing_of_another(other):
    van = vehicle("van-1")
    assert not van.may("iot:Connect", other)
    topics = messages(other) | service_requests(other) | service_answers(other)
    for action in ("iot:Publish", "iot:RetainPublish", "iot:Subscribe", "iot:Receive"):
        assert [topic for topic in sorted(topics) if van.may(action, topic)] == []


def test_a_certificate_of_no_thing_may_not_even_connect():
    stray = vehicle(None)
    assert not stray.may("iot:Connect", "van-1")
    assert [topic for topic in messages("van-1") if stray.may("iot:Publish", topic)] == []


def test_a_claim_certificate_may_provision_and_nothing_else():
    board = claim()
    asks = provisioning_requests(BY_CLAIM) | {CREATE_KEYS}
    assert board.may("iot:Connect", "claim-10000000abcdef01")
    assert not board.may("iot:Connect", "van-1"), "it would end the vehicle's connection"
    assert {topic for topic in EVERYTHING if board.may("iot:Publish", topic)} == asks
    for action in ("iot:Subscribe", "iot:Receive"):
        assert {topic for topic in EVERYTHING if board.may(action, topic)} == answers(asks)
    assert [topic for topic in EVERYTHING if board.may("iot:RetainPublish", topic)] == []


def test_a_claim_certificate_cannot_rotate_and_a_vehicle_cannot_claim():
    claiming, rotating = (ProvisioningTopics(one).register for one in (BY_CLAIM, ROTATION))
    assert not claim().may("iot:Publish", rotating)
    assert not vehicle("van-1").may("iot:Publish", claiming)
    assert not vehicle("van-1").may("iot:Publish", CREATE_KEYS)
