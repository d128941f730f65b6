"""The consumers of the one-machine cloud, as the template ties functions, tables and queues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from cloud.serve.consumer import Batching, Consumer, Process
from cloud.serve.functions import Handler, bury, function, invoked, rule_errors, status_table
from cloud.serve.stream import Stream
from cloud.stores.sqlite import SqliteStores
from cloud.template import Consumer as Function
from cloud.template import DynamoDbV2Action, RuleFunction, TopicRule

MAX_WINDOW_S: Final = 5.0
"""The longest batching window; bounds what is not archived yet, and makes smaller files."""
CATCH_UP_TIMEOUT_S: Final = 20.0

log = logging.getLogger(__name__)


def build_consumers(
    rules: Sequence[TopicRule],
    functions: Sequence[Function],
    called: Sequence[RuleFunction],
    stream: Stream,
    stores: SqliteStores,
) -> list[Consumer]:
    """One for each function, each function that a rule calls, each table and each queue."""
    letters = stores.dead_letters

    def consumer(name: str, source: str, process: Process, batching: Batching) -> Consumer:
        return Consumer(
            name,
            reader=stream.reader(source, name),
            process=process,
            give_up=bury(letters),
            clock=stores.clock,
            batching=batching,
        )

    tables = {
        action.table
        for rule in rules
        for action in rule.actions
        if isinstance(action, DynamoDbV2Action)
    }
    queues = {rule.error_action.queue for rule in rules}
    queues |= {one.on_failure for one in functions} | {one.on_failure for one in called}
    return [
        *(
            consumer(one.name, one.stream, _process(one, stores), _batching(one))
            for one in functions
        ),
        *(
            consumer(
                one.name,
                one.logical_id,
                invoked(one.name, _handler(one, stores)),
                Batching(max_tries=one.max_retries + 1),
            )
            for one in called
        ),
        *(consumer(name, name, status_table(stores, letters), Batching()) for name in tables),
        *(consumer(name, name, rule_errors(letters), Batching()) for name in queues),
    ]


async def finish(consumers: Sequence[Consumer], stream: Stream) -> None:
    """Let them do what is in the stream and end; what is not done in time comes again."""
    for consumer in consumers:
        consumer.stop()
    stream.wake()
    for consumer in consumers:
        if not await asyncio.to_thread(consumer.join, CATCH_UP_TIMEOUT_S):
            log.error("%s does not end; its batch comes again at the next start", consumer.name)
            continue
        consumer.close()


def _process(one: Function, stores: SqliteStores) -> Process:
    return function(one.name, one.stream, _handler(one, stores))


def _handler(one: Function | RuleFunction, stores: SqliteStores) -> Handler:
    handler: Handler = import_module(one.handler.rpartition(".")[0]).build(stores)
    return handler


def _batching(one: Function) -> Batching:
    """As in the template, but nobody at a desk waits minutes for a file."""
    return Batching(
        batch_size=one.batch_size,
        window_s=min(one.batching_window_s, MAX_WINDOW_S),
        max_tries=one.max_retries + 1,
    )
