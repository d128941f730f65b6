"""The SAM template: valid, complete for the handlers, narrow in its policies, one source."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from cloud.errors import ConfigError
from cloud.iotsql import PayloadError, RuleContext
from cloud.template import (
    TEMPLATE_PATH,
    DynamoDbV2Action,
    Intrinsic,
    KinesisAction,
    SqsAction,
    load_consumers,
    load_rules,
    load_template,
)
from contract import MessageKind, Topics
from contract.shadow import ShadowAction, ShadowTopics
from contract.topics import rule_name

ROOT = TEMPLATE_PATH.parent.parent
REGION = "eu-central-1"
TEMPLATE = load_template()
RESOURCES = TEMPLATE["Resources"]
SETTLED = {
    "HISTORY_TABLE": "HistoryTable",
    "RUNS_TABLE": "RunsTable",
    "POSITIONS_TABLE": "PositionsTable",
    "VEHICLES_TABLE": "VehiclesTable",
    "ALERTS_TABLE": "AlertsTable",
    "ARCHIVE_BUCKET": "ArchiveBucket",
    "ALERTS_TOPIC_ARN": "AlertsTopic",
    "DEAD_LETTER_QUEUE_URL": "DeadLetterQueue",
}
SAMPLE = {
    "vehicle_id": "12345",
    "run_id": "f3a1c2d4",
    "sequence": 9182,
    "timestamp": "2025-01-15T14:32:18.123Z",
    "time_quality": "gps",
    "location": {"lat": 50.1105, "lon": 8.0},
}


def rule(kind):
    return next(found for found in load_rules() if found.name == rule_name(kind))


def of_type(kind):
    return {name: found for name, found in RESOURCES.items() if found["Type"] == kind}


def sam():
    local = ROOT / ".tools" / "sam" / "bin" / "sam"
    return str(local) if local.exists() else shutil.which("sam")


def test_cfn_lint_finds_nothing():
    program = Path(sys.executable).with_name("cfn-lint")  # of the dev extra, beside Python
    command = [program, "--regions", REGION, "--template", TEMPLATE_PATH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sam_validates_it(tmp_path):
    program = sam()
    if program is None:
        reason = "not installed: sam (make pytest puts it into .tools/sam; or aws-sam-cli on PATH)"
        if os.environ.get("MILEPOST_REQUIRE_ALL") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    done = subprocess.run(
        [program, "validate", "--lint", "--region", REGION, "--template", TEMPLATE_PATH],
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", "__SAM_CLI_APP_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a valid SAM Template" in done.stdout


def test_it_has_no_yaml_alias_since_cloudformation_takes_none():
    assert not re.search(r"^[^#'\"]*[:\-] [&*]\w", TEMPLATE_PATH.read_text(), re.MULTILINE)


def test_there_is_a_rule_for_each_kind_of_message_and_one_for_a_refused_status():
    names = [found.name for found in load_rules()]
    assert names == [*(rule_name(kind) for kind in MessageKind), "milepost_status_refused"]


@pytest.mark.parametrize("kind", MessageKind)
def test_each_topic_of_a_vehicle_reaches_its_own_rule_alone(kind):
    for prefix in (None, "milepost"):
        topic = Topics("12345", prefix).topic(kind)
        reached = {found.name for found in load_rules() if found.accepts(topic)}
        if kind is MessageKind.STATUS and prefix is None:
            reached.discard("milepost_status_refused")
        assert reached == {rule_name(kind)}


@pytest.mark.parametrize("kind", [MessageKind.TELEMETRY, MessageKind.EVENTS])
def test_a_json_message_reaches_the_stream_with_vehicle_and_time_of_arrival(kind):
    found = rule(kind)
    topic = Topics("12345", "milepost").topic(kind)
    context = RuleContext(topic, timestamp_ms=1_736_951_538_200, client_id="12345")
    result = found.rule.evaluate(orjson.dumps(SAMPLE), context)
    assert orjson.loads(result.to_bytes()) == {
        **SAMPLE,
        "topic_vehicle_id": "12345",
        "received_at_ms": 1_736_951_538_200,
    }
    (action,) = found.actions
    assert isinstance(action, KinesisAction)
    assert action.stream == "TelemetryStream"
    assert action.partition_key.render(b"", context) == "12345"
    assert found.error_action == SqsAction("DeadLetterQueue")


def test_a_batch_reaches_the_stream_as_base64_whatever_its_bytes():
    found = rule(MessageKind.BATCH)
    context = RuleContext("telemetry/12345/batch", timestamp_ms=5)
    result = found.rule.evaluate(b"MPB\x01\xff\x00", context)
    assert result.value == {
        "batch_base64": "TVBCAf8A",
        "topic_vehicle_id": "12345",
        "received_at_ms": 5,
    }


def test_what_is_no_json_goes_to_the_error_action():
    context = RuleContext("telemetry/12345", timestamp_ms=5)
    with pytest.raises(PayloadError):
        rule(MessageKind.TELEMETRY).rule.evaluate(b"\xff\xfe", context)


@pytest.mark.parametrize(
    ("payload", "stored", "refused"),
    [
        (b'{"vehicle_id":"12345"}', True, False),
        (b'{"vehicle_id":"99"}', False, True),
        (b'{"vehicle_id":12345}', False, True),
        (b'{"vehicle_id":null}', False, True),
        (b"{}", True, False),  # the table refuses it for its key; so the error action gets it
    ],
)
def test_a_status_is_stored_for_its_own_vehicle_and_refused_for_another(payload, stored, refused):
    context = RuleContext("status/12345", timestamp_ms=5, client_id="12345")
    status = rule(MessageKind.STATUS)
    table, stream = status.actions
    assert table == DynamoDbV2Action("VehicleStatusTable")
    assert isinstance(stream, KinesisAction)
    assert (status.rule.evaluate(payload, context) is not None) is stored
    other = next(found for found in load_rules() if found.name == "milepost_status_refused")
    letter = other.rule.evaluate(payload, context)
    assert (letter is not None) is refused
    if letter is not None:
        assert letter.value["ruleName"] == "milepost_status_refused"
        assert letter.value["topic"] == "status/12345"
        assert letter.value["clientId"] == "12345"
        assert letter.value["failures"][0]["failedResource"] == "vehicle_id"


def test_the_four_consumers_read_the_stream_and_report_item_failures():
    consumers = {found.name: found for found in load_consumers()}
    assert list(consumers) == ["enrich", "detect_anomalies", "track_position", "archive"]
    for name, found in consumers.items():
        assert found.handler == f"cloud.handlers.{name}.handler"
        assert found.stream == "TelemetryStream"
        assert found.on_failure == "DeadLetterQueue"
        assert found.reports_item_failures
        assert found.bisect_on_error
        assert 1 <= found.max_retries <= 10
        assert 1 <= found.batch_size <= 10_000


def test_functions_run_python_3_12_on_arm64_from_the_bundle():
    settings = TEMPLATE["Globals"]["Function"]
    assert settings["Runtime"] == "python3.12"
    assert settings["Architectures"] == ["arm64"]
    assert (TEMPLATE_PATH.parent / settings["CodeUri"]).resolve() == ROOT / "build" / "lambda"


def asked_variables(module):
    """Every upper-case literal in a call of LazyHandler: what the entry point asks for."""
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    return {
        argument.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LazyHandler"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("consumer", load_consumers(), ids=lambda found: found.name)
def test_a_function_is_given_what_its_handler_asks_for(consumer):
    asked = asked_variables(consumer.handler.rpartition(".")[0])
    assert asked, "the handler declares what it needs"
    assert asked <= consumer.environment
    assert "DEAD_LETTER_QUEUE_URL" in consumer.environment


def test_variables_point_to_the_resources_that_were_settled():
    for function in of_type("AWS::Serverless::Function").values():
        for name, value in function["Properties"]["Environment"]["Variables"].items():
            if name in SETTLED:
                assert value == Intrinsic("Ref", SETTLED[name])


def test_every_variable_that_the_template_gives_is_read_somewhere():
    code = "\n".join(
        path.read_text()
        for folder in ("handlers", "stores")
        for path in (ROOT / "cloud" / folder).glob("*.py")
    )
    for consumer in load_consumers():
        assert [name for name in sorted(consumer.environment) if f'"{name}"' not in code] == []


def statements():
    for name, resource in RESOURCES.items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        if resource["Type"] in {"AWS::IAM::ManagedPolicy", "AWS::IoT::Policy"}:
            documents.append(properties["PolicyDocument"])
        for document in documents:
            for statement in document["Statement"]:
                yield name, statement.argument[1] if isinstance(statement, Intrinsic) else statement


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_no_policy_allows_a_wildcard_but_where_aws_knows_nothing_narrower():
    wild = []
    seen = 0
    for name, statement in statements():
        seen += 1
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"])), name
        for resource in as_list(statement["Resource"]):
            text = resource.argument if isinstance(resource, Intrinsic) else resource
            if "*" in text and text != "${ArchiveBucket.Arn}/*":
                wild.append((name, statement["Action"]))
    assert seen > 12
    assert sorted(wild) == [
        ("ReadStreamPolicy", "kinesis:ListStreams"),
        ("VehiclePolicy", "iot:Receive"),
        ("VehiclePolicy", "iot:Subscribe"),
    ]


def test_the_vehicles_policy_has_no_more_characters_than_aws_takes():
    names = {
        "AWS::Partition": "aws",
        "AWS::Region": "ap-southeast-2",
        "AWS::AccountId": "123456789012",
        "RulePrefix": "milepost",
    }
    filled = []
    for name, statement in statements():
        if name == "VehiclePolicy":
            texts = [found.argument for found in as_list(statement["Resource"])]
            for variable, value in names.items():
                texts = [text.replace(f"${{{variable}}}", value) for text in texts]
            filled.append({**statement, "Resource": [text.replace("${!", "${") for text in texts]})
    document = json.dumps({"Version": "2012-10-17", "Statement": filled}, separators=(",", ":"))
    assert 1500 < len(document) <= 2048


def test_a_vehicle_may_reach_exactly_its_own_topics_as_itself():
    thing = "${!iot:Connection.Thing.ThingName}"
    by_action = {
        statement["Action"]: [found.argument for found in as_list(statement["Resource"])]
        for name, statement in statements()
        if name == "VehiclePolicy"
    }
    start = "arn:${AWS::Partition}:iot:${AWS::Region}:${AWS::AccountId}:"
    topics = [
        Topics("THING", prefix).topic(kind).replace("milepost_", "${RulePrefix}_")
        for prefix in (None, "milepost")
        for kind in MessageKind
    ]
    expected = {f"{start}topic/{topic}".replace("THING", thing) for topic in topics}
    shadow = ShadowTopics("THING")
    asked = (shadow.request(ShadowAction.GET), shadow.request(ShadowAction.UPDATE))
    expected |= {f"{start}topic/{topic}".replace("THING", thing) for topic in asked}
    own_shadow = f"$aws/things/{thing}/shadow/name/milepost/*"
    assert all(topic.startswith("$aws/things/THING/shadow/name/milepost/") for topic in asked)
    assert by_action.pop("iot:Subscribe") == [f"{start}topicfilter/{own_shadow}"]
    assert by_action.pop("iot:Receive") == [f"{start}topic/{own_shadow}"]
    assert set(by_action) == {"iot:Connect", "iot:Publish", "iot:RetainPublish"}
    assert by_action["iot:Connect"] == [f"{start}client/{thing}"]
    assert set(by_action["iot:Publish"]) == expected
    assert by_action["iot:RetainPublish"] == [f"{start}topic/status/{thing}"]


def test_tables_are_on_demand_recoverable_and_kept_when_the_stack_goes():
    tables = of_type("AWS::DynamoDB::Table")
    assert len(tables) == 6
    for table in tables.values():
        properties = table["Properties"]
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
        keys = [key["AttributeName"] for key in properties["KeySchema"]]
        assert keys in (["vehicle_id"], ["vehicle_id", "item_key"])
    with_ttl = [name for name in tables if "TimeToLiveSpecification" in tables[name]["Properties"]]
    assert with_ttl == ["HistoryTable"]


def test_the_archive_is_encrypted_and_not_public():
    properties = RESOURCES["ArchiveBucket"]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert "BucketEncryption" in properties
    assert properties["LifecycleConfiguration"]["Rules"]


def test_a_parameter_changes_the_names_of_the_rules(tmp_path):
    copy = tmp_path / "template.yaml"
    copy.write_text(TEMPLATE_PATH.read_text().replace("Default: milepost\n", "Default: fleet\n"))
    assert [found.name for found in load_rules(copy)][:2] == ["fleet_telemetry", "fleet_batch"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("FROM 'events/+'", "FROM events/+", "EventsRule"),
        ("PartitionKey: ${topic(2)}", "PartitionKey: ${topic(}", "TelemetryRule"),
        ('AwsIotSqlVersion: "2016-03-23"', 'AwsIotSqlVersion: "2015-10-08"', "TelemetryRule"),
        ("- DynamoDBv2:", "- Firehose:", "StatusRule"),
        ("StreamName: !Ref TelemetryStream", "StreamName: plain", "TelemetryRule"),
        ("${RulePrefix}_events\n", "${Unknown}_events\n", "EventsRule"),
    ],
)
def test_a_rule_that_cannot_be_run_here_is_named(tmp_path, old, new, named):
    text = TEMPLATE_PATH.read_text()
    assert old in text
    copy = tmp_path / "template.yaml"
    copy.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=named):
        load_rules(copy)


@pytest.mark.parametrize(
    "text", ["", "[1]", "Resources: 5", "a: [", "!!python/object:os.system {}"]
)
def test_a_file_that_is_no_template_is_a_config_error(tmp_path, text):
    copy = tmp_path / "template.yaml"
    copy.write_text(text)
    for load in (load_rules, load_consumers):
        with pytest.raises(ConfigError):
            load(copy)
    with pytest.raises(ConfigError, match="absent"):
        load_rules(Path(tmp_path / "absent.yaml"))
