"""Rules evaluated a second: the telemetry rule of the template on the seed message.

``python bench/iot_rules.py [--json] [--seconds N]``: one core, the median of five rounds.
Beside it, what the same message costs with the parts that no evaluator can avoid: parse,
add two keys, serialise (orjson, by hand).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import orjson

from cloud.iotsql import RuleContext
from cloud.template import KinesisAction, TopicRule, load_rules
from contract.topics import MessageKind, rule_name
from tests.fakes.seed import SEED

ROUNDS = 5
BURST = 200
TOPIC = "telemetry/12345"


def per_second(work: Callable[[], object], seconds: float) -> float:
    """Calls of ``work`` a second: the median of several rounds."""
    rates = []
    for _ in range(ROUNDS):
        calls = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds / ROUNDS:
            for _ in range(BURST):
                work()
            calls += BURST
        rates.append(calls / elapsed)
    return statistics.median(rates)


def through_all(rules: tuple[TopicRule, ...], payload: bytes, context: RuleContext) -> int:
    """What one message costs in the one-machine mode: match, evaluate, key, serialise."""
    sent = 0
    for rule in rules:
        if not rule.accepts(context.topic):
            continue
        result = rule.rule.evaluate(payload, context)
        if result is None:
            continue
        for action in rule.actions:
            if isinstance(action, KinesisAction):
                action.partition_key.render_frame(rule.rule.frame(payload, context))
                sent += len(result.to_bytes())
    return sent


def by_hand(payload: bytes) -> bytes:
    """The same outcome without an evaluator."""
    document = orjson.loads(payload)
    document["topic_vehicle_id"] = "12345"
    document["received_at_ms"] = 1
    return orjson.dumps(document)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=5.0, help="per figure")
    options = parser.parse_args()
    rules = load_rules()
    telemetry = next(rule for rule in rules if rule.name == rule_name(MessageKind.TELEMETRY))
    payload = orjson.dumps(SEED)
    context = RuleContext(TOPIC, timestamp_ms=1, client_id="12345")
    assert through_all(rules, payload, context) == len(by_hand(payload))
    figures = {
        "payload_bytes": len(payload),
        "rule_evaluated_per_s": round(
            per_second(
                lambda: (result := telemetry.rule.evaluate(payload, context)) and result.to_bytes(),
                options.seconds,
            )
        ),
        "message_through_all_rules_per_s": round(
            per_second(lambda: through_all(rules, payload, context), options.seconds)
        ),
        "by_hand_per_s": round(per_second(lambda: by_hand(payload), options.seconds)),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:34} {figure:>12,}")


if __name__ == "__main__":
    main()
