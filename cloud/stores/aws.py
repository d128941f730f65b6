"""All stores on AWS, composed from the environment that the template sets.

A function's environment names only what its role may use. What is not named raises
``ConfigError`` when it is used.

``HISTORY_TABLE``, ``POSITIONS_TABLE``, ``VEHICLES_TABLE``, ``ALERTS_TABLE``,
``RUNS_TABLE``, ``REGISTRATIONS_TABLE``, ``ARCHIVE_BUCKET``, ``ALERTS_TOPIC_ARN``,
``DEAD_LETTER_QUEUE_URL``,
``HISTORY_RETENTION_DAYS`` (empty or 0: for ever), ``OPERATING_AREAS_S3``
(``s3://bucket/key``; empty: no areas).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import boto3

from cloud.clock import Clock, SystemClock
from cloud.errors import ConfigError
from cloud.stores import Stores
from cloud.stores.aws_stack import CONFIG, stack_outputs
from cloud.stores.dynamodb import DynamoHotStore, DynamoVehicleRegister
from cloud.stores.dynamodb_ledger import DynamoLedgerStore
from cloud.stores.dynamodb_registrations import DynamoRegistrations
from cloud.stores.dynamodb_state import DynamoAlertStore, DynamoPositionStore
from cloud.stores.emf import EmfMetrics
from cloud.stores.iot_certificates import IotCertificates
from cloud.stores.s3 import S3Archive, S3AreaSource
from cloud.stores.sns import SnsNotifier
from cloud.stores.sqs import SqsDeadLetterStore

RUNS_OUTPUT: Final = "RunsTableName"
"""The template's output that names the ledger's table."""


class _Unset:
    """Stands where a port's variable is not set."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigError(
            f"the environment lacks {self._variable}",
            hint="cloud/template.yaml sets it for each function.",
        )


def aws_stores(environment: Mapping[str, str], clock: Clock | None = None) -> Stores:
    """The stores; region and credentials come from boto3's usual places."""
    clock = SystemClock() if clock is None else clock
    session: Any = boto3.session.Session()
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = session.client(service, config=CONFIG)
        return clients[service]

    def port(variable: str, make: Callable[[str], Any]) -> Any:
        value = environment.get(variable, "")
        return make(value) if value else _Unset(variable)

    return Stores(
        register=port(
            "VEHICLES_TABLE", lambda table: DynamoVehicleRegister(client("dynamodb"), table)
        ),
        hot=port(
            "HISTORY_TABLE",
            lambda table: DynamoHotStore(
                client("dynamodb"),
                table,
                clock,
                retention_days=_days(environment.get("HISTORY_RETENTION_DAYS", "")),
            ),
        ),
        ledger=port(
            "RUNS_TABLE", lambda table: DynamoLedgerStore(client("dynamodb"), table, clock)
        ),
        positions=port(
            "POSITIONS_TABLE", lambda table: DynamoPositionStore(client("dynamodb"), table)
        ),
        alerts=port("ALERTS_TABLE", lambda table: DynamoAlertStore(client("dynamodb"), table)),
        notifier=port("ALERTS_TOPIC_ARN", lambda arn: SnsNotifier(client("sns"), arn)),
        archive=port("ARCHIVE_BUCKET", lambda bucket: S3Archive(client("s3"), bucket)),
        dead_letters=port(
            "DEAD_LETTER_QUEUE_URL", lambda url: SqsDeadLetterStore(client("sqs"), url)
        ),
        metrics=EmfMetrics(clock),
        areas=_areas(environment.get("OPERATING_AREAS_S3", ""), client, clock),
        registry=port(
            "REGISTRATIONS_TABLE",
            lambda table: DynamoRegistrations(
                client("dynamodb"), table, IotCertificates(client("iot")), clock
            ),
        ),
        clock=clock,
    )


def ledger_of_stack(stack: str) -> DynamoLedgerStore:
    """The ledger of a deployed stack, found by its outputs, for reading.

    Raises:
        ConfigError: there is no such stack here, or it has no ledger.
    """
    session: Any = boto3.session.Session()
    table = stack_outputs(session, stack, RUNS_OUTPUT)[RUNS_OUTPUT]
    return DynamoLedgerStore(session.client("dynamodb", config=CONFIG), table, SystemClock())


def _days(text: str) -> int | None:
    if text and not text.isdecimal():
        raise ConfigError(
            f"HISTORY_RETENTION_DAYS is {text!r}", hint="Write a whole number of days, or nothing."
        )
    return int(text or 0) or None


def _areas(location: str, client: Callable[[str], Any], clock: Clock) -> S3AreaSource:
    return S3AreaSource(client("s3") if location else None, location, clock)
