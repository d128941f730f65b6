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

from cloud.cloudformation import TEMPLATE_PATH, Intrinsic, load_template
from cloud.errors import ConfigError
from cloud.iotsql import PayloadError, RuleContext
from cloud.provisioning.hook import VEHICLE_TYPE
from cloud.template import (
    DynamoDbV2Action,
    KinesisAction,
    LambdaAction,
    SqsAction,
    load_consumers,
    load_rule_functions,
    load_rules,
)
from contract import MessageKind, Topics
from contract.provisioning import BY_CLAIM, ROTATION, Parameter
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
    "REGISTRATIONS_TABLE": "RegistrationsTable",
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
    table, stream, settle = status.actions
    assert table == DynamoDbV2Action("VehicleStatusTable")
    assert isinstance(stream, KinesisAction)
    assert settle == LambdaAction("SettleIdentityFunction")
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


FUNCTIONS = {
    found["Properties"]["Handler"]: frozenset(found["Properties"]["Environment"]["Variables"])
    for found in of_type("AWS::Serverless::Function").values()
}


@pytest.mark.parametrize("handler", FUNCTIONS)
def test_a_function_is_given_what_its_handler_asks_for(handler):
    asked = asked_variables(handler.rpartition(".")[0])
    assert asked, "the handler declares what it needs"
    assert asked <= FUNCTIONS[handler]


def test_a_consumer_of_the_stream_knows_where_dead_letters_go():
    for consumer in load_consumers():
        assert "DEAD_LETTER_QUEUE_URL" in consumer.environment


def test_a_status_calls_settle_identity_with_the_certificate_that_it_came_with():
    (found,) = load_rule_functions()
    assert found.handler == "cloud.handlers.settle_identity.handler"
    assert found.logical_id == "SettleIdentityFunction"
    assert found.on_failure == "DeadLetterQueue"
    context = RuleContext("status/12345", timestamp_ms=5, client_id="12345", principal="ab" * 32)
    result = rule(MessageKind.STATUS).rule.evaluate(b'{"vehicle_id":"12345"}', context)
    assert result.value["certificate_id"] == "ab" * 32
    basic = RuleContext("$aws/rules/milepost_status/status/12345", 5, principal="cd" * 32)
    result = rule(MessageKind.STATUS).rule.evaluate(b'{"vehicle_id":"12345"}', basic)
    assert result.value["certificate_id"] == "cd" * 32


def provisioning_template(logical_id):
    found = RESOURCES[logical_id]["Properties"]
    return found, json.loads(found["TemplateBody"].argument)


@pytest.mark.parametrize(
    ("logical_id", "name", "parameters"),
    [
        ("ByClaimTemplate", BY_CLAIM, {one.value for one in Parameter} | {VEHICLE_TYPE}),
        ("RotationTemplate", ROTATION, {Parameter.THING_NAME.value}),
    ],
)
def test_a_provisioning_template_makes_an_active_vehicle_if_the_hook_allows(
    logical_id, name, parameters
):
    found, body = provisioning_template(logical_id)
    assert found["TemplateName"].argument.replace("${RulePrefix}", "milepost") == name
    assert found["Enabled"] is True
    assert found["PreProvisioningHook"]["TargetArn"] == Intrinsic(
        "GetAtt", "AllowRegistrationFunction.Arn"
    )
    assert set(body["Parameters"]) == parameters | {"AWS::IoT::Certificate::Id"}
    resources = body["Resources"]
    assert resources["thing"]["Properties"]["ThingName"] == {"Ref": "ThingName"}
    assert resources["certificate"]["Properties"] == {
        "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"},
        "Status": "Active",
    }
    policies = [
        one["Properties"]["PolicyName"]
        for one in resources.values()
        if one["Type"] == "AWS::IoT::Policy"
    ]
    assert policies == ["${VehiclePolicy}", "${VehicleServicesPolicy}"]


def test_a_board_s_attributes_are_as_many_as_a_thing_without_a_type_may_have():
    _, body = provisioning_template("ByClaimTemplate")
    attributes = body["Resources"]["thing"]["Properties"]["AttributePayload"]
    assert 1 <= len(attributes) <= 3


def test_names_fit_where_aws_takes_fewest_characters():
    longest = re.search(r"\{0,(\d+)\}", TEMPLATE["Parameters"]["RulePrefix"]["AllowedPattern"])
    assert 1 + int(longest.group(1)) + len("_by_claim") <= 36


def test_only_aws_iot_may_call_the_functions_behind_provisioning_and_the_rule():
    allowed = {
        found["Properties"]["FunctionName"].argument: found["Properties"]
        for found in of_type("AWS::Lambda::Permission").values()
    }
    assert set(allowed) == {"AllowRegistrationFunction.Arn", "SettleIdentityFunction.Arn"}
    for permission in allowed.values():
        assert permission["Principal"] == "iot.amazonaws.com"
        assert permission["SourceAccount"] == Intrinsic("Ref", "AWS::AccountId")
        assert permission["SourceArn"].argument.endswith(
            ("provisioningtemplate/${RulePrefix}_*", "rule/${RulePrefix}_status")
        )


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
    for given in FUNCTIONS.values():
        assert [name for name in sorted(given) if f'"{name}"' not in code] == []


def statements():
    for name, resource in RESOURCES.items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            documents.append(properties["PolicyDocument"])
        for document in documents:
            for statement in document["Statement"]:
                yield name, statement.argument[1] if isinstance(statement, Intrinsic) else statement


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_no_role_may_more_than_it_must():
    wild = {}
    seen = 0
    for name, statement in statements():
        seen += 1
        assert statement["Effect"] == "Allow"
        actions = as_list(statement["Action"])
        assert not any("*" in action for action in actions), name
        for resource in as_list(statement["Resource"]):
            text = resource.argument if isinstance(resource, Intrinsic) else resource
            if "*" in text:
                wild.setdefault((name, text.rpartition(":")[2]), []).extend(actions)
    assert seen > 12
    assert wild == {
        ("ReadStreamPolicy", "*"): ["kinesis:ListStreams"],  # it knows no resource
        ("ArchiveRole", "${ArchiveBucket.Arn}/*"): ["s3:PutObject"],
        # these names are the fleet's own and not known beforehand
        ("ProvisioningRole", "thing/*"): [
            *("iot:CreateThing", "iot:DescribeThing", "iot:ListThingGroupsForThing"),
            *("iot:ListThingPrincipals", "iot:UpdateThing"),
        ],
        ("ProvisioningRole", "cert/*"): [
            *("iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:AttachThingPrincipal"),
            *("iot:DescribeCertificate", "iot:ListPrincipalThings", "iot:UpdateCertificate"),
        ],
        ("ProvisioningRole", "*"): [  # likewise
            *("iot:ListAttachedPolicies", "iot:ListPolicyPrincipals"),
            *("iot:ListPrincipalPolicies", "iot:RegisterThing"),
        ],
        ("IdentitiesPolicy", "thing/*"): ["iot:ListThingPrincipals"],
        ("IdentitiesPolicy", "cert/*"): [
            *("iot:DescribeCertificate", "iot:DetachPolicy"),
            *("iot:DetachThingPrincipal", "iot:UpdateCertificate"),
        ],
        ("IdentitiesPolicy", "*"): ["iot:ListAttachedPolicies"],
    }


def test_tables_are_on_demand_recoverable_and_kept_when_the_stack_goes():
    tables = of_type("AWS::DynamoDB::Table")
    assert len(tables) == 7
    for table in tables.values():
        properties = table["Properties"]
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
        keys = [key["AttributeName"] for key in properties["KeySchema"]]
        assert keys in (["vehicle_id"], ["vehicle_id", "item_key"], ["item_key"])
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
