"""Alerts: opened, told, resolved, told; each once, whatever is delivered twice or late.

A vehicle's samples are taken in the order of their time, what is older than the stored
evaluation is passed over. State and alert are stored together with the mark ``unnotified``
before anyone is told, and the mark is cleared after; so a crash or a failed notifier in
between tells again and never forgets.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from cloud.errors import StoreError
from cloud.handlers.conditions import (
    AreaRule,
    BatteryRule,
    Observation,
    Rule,
    Thresholds,
    advance,
    unevaluated,
)
from cloud.handlers.records import believable, failures, read_records
from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import (
    Alert,
    AlertKind,
    AlertStore,
    AreaSource,
    Condition,
    LambdaEvent,
    LambdaResponse,
    Notifier,
)
from cloud.stores import Stores
from contract import Sample

_log = logging.getLogger(__name__)


def alert_id(kind: AlertKind, sample: Sample) -> str:
    """The same for the same sample, so that the same sample opens the same alert."""
    text = f"{sample.vehicle_id}\n{kind.value}\n{sample.run_id}\n{sample.sequence}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class DetectAnomalies:
    """The handler."""

    def __init__(
        self,
        alerts: AlertStore,
        notifier: Notifier,
        areas: AreaSource,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._alerts = alerts
        self._notifier = notifier
        self._areas = areas
        self._thresholds = Thresholds() if thresholds is None else thresholds

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one Kinesis event."""
        del context
        samples: dict[str, list[Sample]] = {}
        first: dict[str, str] = {}
        for record in read_records(event):
            for sample, _ in record.samples:
                if believable(sample, record.received_at):
                    samples.setdefault(sample.vehicle_id, []).append(sample)
                    first.setdefault(sample.vehicle_id, record.sequence_number)
        failed: list[str] = []
        try:
            rules = self._rules()
        except StoreError as error:
            _log.error("detect_anomalies: %s", error)
            return failures(list(first.values()))
        for vehicle_id, received in samples.items():
            received.sort(key=lambda one: one.timestamp)
            try:
                for rule in rules:
                    self._evaluate(rule, vehicle_id, received)
            except StoreError as error:
                _log.error("detect_anomalies: %s: %s; will come again", vehicle_id, error)
                failed.append(first[vehicle_id])
        return failures(failed)

    def _rules(self) -> Sequence[Rule]:
        return BatteryRule(self._thresholds), AreaRule(self._thresholds, self._areas.current())

    def _evaluate(self, rule: Rule, vehicle_id: str, samples: Sequence[Sample]) -> None:
        stored = self._alerts.condition(vehicle_id, rule.kind)
        condition = unevaluated(vehicle_id, rule.kind) if stored is None else stored
        condition = self._tell_again(condition)
        for sample in samples:
            seen = rule.observe(sample, raised=condition.raised)
            if seen is None:
                continue
            condition, changed = advance(condition, seen, rule.needed)
            if changed:
                condition, alert = self._change(condition, seen, sample)
                if not self._alerts.save(condition, alert):
                    return  # somebody evaluated later data in the meantime
                self._notifier.notify(alert)
                condition = _told(condition)
        if condition not in {stored, unevaluated(vehicle_id, rule.kind)}:
            self._alerts.save(condition, None)

    def _change(
        self, condition: Condition, seen: Observation, sample: Sample
    ) -> tuple[Condition, Alert]:
        """The condition has changed sides: its alert, opened or resolved."""
        if condition.raised:
            opened = Alert(
                alert_id=alert_id(condition.kind, sample),
                vehicle_id=condition.vehicle_id,
                kind=condition.kind,
                opened_at=seen.at,
                detail=seen.detail,
            )
            return replace(condition, alert_id=opened.alert_id, unnotified=True), opened
        known = None
        if condition.alert_id is not None:
            known = self._alerts.alert(condition.vehicle_id, condition.alert_id)
        if known is None:  # an operator deleted it
            known = Alert(
                alert_id=condition.alert_id or alert_id(condition.kind, sample),
                vehicle_id=condition.vehicle_id,
                kind=condition.kind,
                opened_at=seen.at,
            )
        resolved = replace(known, resolved_at=seen.at)
        return replace(condition, alert_id=resolved.alert_id, unnotified=True), resolved

    def _tell_again(self, condition: Condition) -> Condition:
        """Tell what was stored and not told, because a call before this one ended early."""
        if not condition.unnotified:
            return condition
        if condition.alert_id is not None:
            alert = self._alerts.alert(condition.vehicle_id, condition.alert_id)
            if alert is not None:
                self._notifier.notify(alert)
        return _told(condition)


def _told(condition: Condition) -> Condition:
    keep = condition.alert_id if condition.raised else None
    return replace(condition, unnotified=False, alert_id=keep)


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return DetectAnomalies(stores.alerts, stores.notifier, stores.areas)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(
    build, "ALERTS_TABLE", "ALERTS_TOPIC_ARN"
)
