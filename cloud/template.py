"""What the one-machine mode takes from ``cloud/template.yaml``: rules and functions.

The template stays the single place that says which rule, stream, table and function are
tied together. Parameters have their default values here; ``!Ref`` to a resource becomes
its logical id, which the one-machine mode maps to a store of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.cloudformation import (
    HINT,
    TEMPLATE_PATH,
    Node,
    load_template,
    resource_of,
    text_of,
)
from cloud.errors import ConfigError
from cloud.iotsql import SQL_VERSION, SqlSyntaxError, Template, basic_ingest_rule, compile_template
from cloud.iotsql.rule import Rule, compile_rule


@dataclass(frozen=True, slots=True)
class KinesisAction:
    """Put the outgoing payload into a stream; ``stream`` is its logical id."""

    stream: str
    partition_key: Template


@dataclass(frozen=True, slots=True)
class DynamoDbV2Action:
    """Put each key of the outgoing payload into its column; ``table`` is the logical id."""

    table: str


@dataclass(frozen=True, slots=True)
class SqsAction:
    """Send the outgoing payload to a queue; ``queue`` is its logical id."""

    queue: str


@dataclass(frozen=True, slots=True)
class LambdaAction:
    """Call a function with the outgoing payload as its event; ``function`` is its logical id."""

    function: str


Action = KinesisAction | DynamoDbV2Action | SqsAction | LambdaAction


@dataclass(frozen=True, slots=True)
class TopicRule:
    """An IoT rule with what it does; ``rule`` is its compiled ``sql``."""

    name: str
    sql: str
    rule: Rule
    actions: tuple[Action, ...]
    error_action: SqsAction

    def accepts(self, topic: str) -> bool:
        """Whether a message on this topic is this rule's: by FROM, or by Basic Ingest."""
        named = basic_ingest_rule(topic)
        return self.rule.matches(topic) if named is None else named == self.name


@dataclass(frozen=True, slots=True)
class Consumer:
    """A function tied to a stream by an event source mapping.

    ``name`` is the last part of the handler's module, e.g. ``track_position``;
    ``batching_window_s`` is how long a batch may wait to fill.
    """

    name: str
    handler: str
    stream: str
    batch_size: int
    batching_window_s: int
    max_retries: int
    bisect_on_error: bool
    reports_item_failures: bool
    on_failure: str
    environment: frozenset[str]


@dataclass(frozen=True, slots=True)
class RuleFunction:
    """A function that a rule's ``LambdaAction`` calls.

    ``on_failure`` is the logical id of the queue for events that it failed on to the end.
    """

    name: str
    handler: str
    logical_id: str
    max_retries: int
    on_failure: str
    environment: frozenset[str]


def load_rules(path: Path = TEMPLATE_PATH) -> tuple[TopicRule, ...]:
    """The IoT rules, compiled, in the template's order.

    Raises:
        ConfigError: a rule is not of the form that this version runs.
    """
    return tuple(_read(path, "AWS::IoT::TopicRule", _rule))


def load_consumers(path: Path = TEMPLATE_PATH) -> tuple[Consumer, ...]:
    """The functions behind a stream, in the template's order.

    Raises:
        ConfigError: as above.
    """
    found = _read(path, "AWS::Serverless::Function", _consumer)
    return tuple(one for one in found if one is not None)


def load_rule_functions(path: Path = TEMPLATE_PATH) -> tuple[RuleFunction, ...]:
    """The functions that rules call, in the template's order.

    Raises:
        ConfigError: as above, and a rule calls what the template does not have.
    """
    called = {
        action.function
        for rule in load_rules(path)
        for action in rule.actions
        if isinstance(action, LambdaAction)
    }
    found = _read(path, "AWS::Serverless::Function", _rule_function)
    functions = tuple(one for one in found if one is not None and one.logical_id in called)
    if missing := called - {one.logical_id for one in functions}:
        raise ConfigError(
            f"{path}: a rule calls {', '.join(sorted(missing))}, which has no EventInvokeConfig",
            hint=HINT,
        )
    return functions


def _read(path: Path, kind: str, make: Any) -> list[Any]:
    template = load_template(path)
    parameters = {
        name: str(definition.get("Default", ""))
        for name, definition in template.get("Parameters", {}).items()
    }
    made = []
    for logical_id, resource in template["Resources"].items():
        if resource.get("Type") != kind:
            continue
        try:
            made.append(make(logical_id, resource["Properties"], parameters))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{path}: {logical_id}: {reason}", hint=HINT) from error
    return made


def _rule(_name: str, properties: Mapping[str, Node], parameters: Mapping[str, str]) -> TopicRule:
    payload = properties["TopicRulePayload"]
    if payload.get("AwsIotSqlVersion") != SQL_VERSION:
        raise ValueError(f"AwsIotSqlVersion is not {SQL_VERSION}")
    sql = text_of(payload["Sql"], parameters)
    try:
        rule = compile_rule(sql)
    except SqlSyntaxError as error:
        raise ValueError(f"Sql: {error}") from error
    actions = tuple(_action(action, rule, parameters) for action in payload["Actions"])
    error_action = _action(payload["ErrorAction"], rule, parameters)
    if not isinstance(error_action, SqsAction):
        raise TypeError("ErrorAction is not Sqs")
    return TopicRule(text_of(properties["RuleName"], parameters), sql, rule, actions, error_action)


def _action(node: Mapping[str, Node], rule: Rule, parameters: Mapping[str, str]) -> Action:
    match dict(node):
        case {"Kinesis": action}:
            key = compile_template(text_of(action["PartitionKey"], parameters), rule.variable_names)
            return KinesisAction(resource_of(action["StreamName"]), key)
        case {"DynamoDBv2": action}:
            return DynamoDbV2Action(resource_of(action["PutItem"]["TableName"]))
        case {"Sqs": action} if action.get("UseBase64") is False:
            return SqsAction(resource_of(action["QueueUrl"]))
        case {"Lambda": action}:
            return LambdaAction(resource_of(action["FunctionArn"]))
    raise ValueError(f"an action of an unknown kind: {', '.join(node)}")


def _consumer(
    _name: str, properties: Mapping[str, Node], _parameters: Mapping[str, str]
) -> Consumer | None:
    if "Events" not in properties:
        return None  # no stream calls it
    events = [event for event in properties["Events"].values() if event["Type"] == "Kinesis"]
    if len(events) != 1:
        raise ValueError(f"has {len(events)} Kinesis events; one is expected")
    mapping = events[0]["Properties"]
    handler = properties["Handler"]
    return Consumer(
        name=handler.split(".")[-2],
        handler=handler,
        stream=resource_of(mapping["Stream"]),
        batch_size=int(mapping["BatchSize"]),
        batching_window_s=int(mapping["MaximumBatchingWindowInSeconds"]),
        max_retries=int(mapping["MaximumRetryAttempts"]),
        bisect_on_error=mapping["BisectBatchOnFunctionError"] is True,
        reports_item_failures="ReportBatchItemFailures" in mapping["FunctionResponseTypes"],
        on_failure=resource_of(mapping["DestinationConfig"]["OnFailure"]["Destination"]),
        environment=frozenset(properties["Environment"]["Variables"]),
    )


def _rule_function(
    logical_id: str, properties: Mapping[str, Node], _parameters: Mapping[str, str]
) -> RuleFunction | None:
    invoke = properties.get("EventInvokeConfig")
    if invoke is None:
        return None
    handler = properties["Handler"]
    return RuleFunction(
        name=handler.split(".")[-2],
        handler=handler,
        logical_id=logical_id,
        max_retries=int(invoke["MaximumRetryAttempts"]),
        on_failure=resource_of(invoke["DestinationConfig"]["OnFailure"]["Destination"]),
        environment=frozenset(properties["Environment"]["Variables"]),
    )
