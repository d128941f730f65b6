"""The state of vehicles and alerts in SQLite: positions, conditions, alerts, dead letters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cloud.clock import Clock, from_milliseconds, milliseconds
from cloud.ports import Alert, AlertKind, Condition, DeadLetter, Position
from cloud.stores.database import Database
from cloud.stores.histogram import bucket_of
from cloud.stores.letters import letter_id
from cloud.stores.wording import position_json, wording

_log = logging.getLogger(__name__)

_PUT_POSITION: Final = """
    INSERT INTO positions (vehicle_id, timestamp_ms, stored_ms, position) VALUES (?, ?, ?, ?)
    ON CONFLICT (vehicle_id) DO UPDATE
    SET timestamp_ms = excluded.timestamp_ms, stored_ms = excluded.stored_ms,
        position = excluded.position
    WHERE excluded.timestamp_ms > timestamp_ms
"""
_PUT_CONDITION: Final = """
    INSERT INTO conditions (vehicle_id, kind, raised, evaluated_ms, alert_id, streak, unnotified)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (vehicle_id, kind) DO UPDATE
    SET raised = excluded.raised, evaluated_ms = excluded.evaluated_ms,
        alert_id = excluded.alert_id, streak = excluded.streak, unnotified = excluded.unnotified
    WHERE excluded.evaluated_ms >= evaluated_ms
"""
_PUT_ALERT: Final = """
    INSERT OR REPLACE INTO alerts (vehicle_id, alert_id, kind, opened_ms, resolved_ms, detail)
    VALUES (?, ?, ?, ?, ?, ?)
"""
_COUNT_BUCKET: Final = """
    INSERT INTO metric_buckets (name, bucket, count) VALUES (?, ?, ?)
    ON CONFLICT (name, bucket) DO UPDATE SET count = count + excluded.count
"""


class SqlitePositionStore:
    """``PositionStore`` on the table ``positions``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put_if_newer(self, position: Position) -> bool:
        """Whether the position was stored."""
        return bool(self.put_newest([position]))

    def put_newest(self, positions: Sequence[Position]) -> Sequence[Position]:
        """Those that were stored; all in one transaction."""
        if not positions:
            return []
        stored = []
        now_ms = milliseconds(self._clock.utc())
        with self._database.write() as connection:
            for position in positions:
                row = (
                    position.vehicle_id,
                    milliseconds(position.timestamp),
                    now_ms,
                    position_json(position),
                )
                if connection.execute(_PUT_POSITION, row).rowcount > 0:
                    stored.append(position)
        return stored


class SqliteAlertStore:
    """``AlertStore`` on the tables ``conditions`` and ``alerts``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def condition(self, vehicle_id: str, kind: AlertKind) -> Condition | None:
        """The stored state."""
        rows = self._database.read(
            "SELECT raised, evaluated_ms, alert_id, streak, unnotified FROM conditions"
            " WHERE vehicle_id = ? AND kind = ?",
            (vehicle_id, kind.value),
        )
        for raised, evaluated_ms, alert_id, streak, unnotified in rows:
            return Condition(
                vehicle_id=vehicle_id,
                kind=kind,
                raised=bool(raised),
                evaluated_at=from_milliseconds(evaluated_ms),
                alert_id=alert_id,
                streak=streak,
                unnotified=bool(unnotified),
            )
        return None

    def alert(self, vehicle_id: str, alert_id: str) -> Alert | None:
        """One alert."""
        rows = self._database.read(
            "SELECT kind, opened_ms, resolved_ms, detail FROM alerts"
            " WHERE vehicle_id = ? AND alert_id = ?",
            (vehicle_id, alert_id),
        )
        for kind, opened_ms, resolved_ms, detail in rows:
            return Alert(
                alert_id=alert_id,
                vehicle_id=vehicle_id,
                kind=AlertKind(kind),
                opened_at=from_milliseconds(opened_ms),
                resolved_at=None if resolved_ms is None else from_milliseconds(resolved_ms),
                detail=detail,
            )
        return None

    def save(self, condition: Condition, alert: Alert | None) -> bool:
        """Both or neither; False when a later evaluation is stored."""
        row = (
            condition.vehicle_id,
            condition.kind.value,
            condition.raised,
            milliseconds(condition.evaluated_at),
            condition.alert_id,
            condition.streak,
            condition.unnotified,
        )
        with self._database.write() as connection:
            if connection.execute(_PUT_CONDITION, row).rowcount <= 0:
                return False
            if alert is not None:
                connection.execute(
                    _PUT_ALERT,
                    (
                        alert.vehicle_id,
                        alert.alert_id,
                        alert.kind.value,
                        milliseconds(alert.opened_at),
                        None if alert.resolved_at is None else milliseconds(alert.resolved_at),
                        alert.detail,
                    ),
                )
        return True


class SqliteNotifier:
    """``Notifier`` of one machine: a log line and a row, once per alert and state."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def notify(self, alert: Alert) -> None:
        """Tell; an alert told again in the same state is not told twice."""
        text = wording(alert)
        state = "opened" if alert.resolved_at is None else "resolved"
        with self._database.write() as connection:
            told = connection.execute(
                "INSERT OR IGNORE INTO notifications (alert_id, state, vehicle_id, sent_ms, text)"
                " VALUES (?, ?, ?, ?, ?)",
                (alert.alert_id, state, alert.vehicle_id, milliseconds(self._clock.utc()), text),
            )
        if told.rowcount > 0:
            _log.warning("%s", text)


class SqliteDeadLetterStore:
    """``DeadLetterStore`` on the table ``dead_letters``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, letter: DeadLetter) -> None:
        """Keep one; an equal one is there already."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO dead_letters"
                " (digest, received_ms, topic, field, reason, payload) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    letter_id(letter),
                    milliseconds(letter.received_at),
                    letter.topic,
                    letter.field,
                    letter.reason,
                    letter.payload,
                ),
            )


class SqliteMetrics:
    """``Metrics`` on the table ``metric_buckets``; labels are not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Count one value."""
        del labels
        self.observe_all(name, [value])

    def observe_all(self, name: str, values: Sequence[float]) -> None:
        """Count several values in one transaction."""
        if values:
            counts = Counter(bucket_of(value) for value in values)
            with self._database.write() as connection:
                connection.executemany(
                    _COUNT_BUCKET, [(name, bucket, count) for bucket, count in counts.items()]
                )
