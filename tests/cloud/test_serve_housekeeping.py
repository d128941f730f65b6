"""Counting and trimming, and that a store that fails loses no count."""

from datetime import UTC, datetime, timedelta

import pytest

from cloud.clock import milliseconds
from cloud.errors import StoreError
from cloud.pki import Authority
from cloud.provisioning.ports import Principal, PrincipalKind
from cloud.serve.dispatcher import Dispatcher
from cloud.serve.housekeeping import RETENTION_S, Housekeeping
from cloud.serve.ingest import Message
from cloud.serve.stream import Entry, Stream
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_registry import SqliteRegistry
from cloud.template import load_rules
from contract.provisioning import TOKEN_LIFE_S
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class StillClock:
    def utc(self):
        return NOW


class Traffic:
    def __init__(self):
        self.counted = []
        self.failing = False

    def count_received(self, received):
        if self.failing:
            raise StoreError("disk full")
        self.counted.append(dict(received))


@pytest.fixture
def stream(tmp_path):
    opened = Stream(tmp_path / "stream.db")
    yield opened
    opened.close()


@pytest.fixture
def house(stream, tmp_path):
    database = Database(tmp_path / DATABASE_NAME, MIGRATIONS, create=True)
    clock = StillClock()
    registry = SqliteRegistry(database, clock)
    yield Housekeeping(Dispatcher(load_rules(), "DLQ"), Traffic(), stream, registry, clock)
    database.close()


def test_what_was_received_is_counted_once(house):
    house._dispatcher.route(Message("van-1", "events/van-1", b"{}", NOW))
    house.count()
    house.count()
    assert house._stores.counted == [{"van-1": (1, 14)}, {}]


def test_a_count_that_could_not_be_stored_is_stored_later(house, caplog):
    house._dispatcher.route(Message("van-1", "events/van-1", b"{}", NOW))
    house._stores.failing = True
    house.count()
    assert "disk full" in caplog.text
    house._stores.failing = False
    house._dispatcher.route(Message("van-1", "events/van-1", b"{}", NOW))
    house.count()
    assert house._stores.counted == [{"van-1": (2, 28)}]


def test_trimming_keeps_the_last_hour(house, stream):
    for age_s in (RETENTION_S + 1, RETENTION_S - 1):
        arrived = NOW - timedelta(seconds=age_s)
        stream.append([Entry("A", "key", str(age_s).encode())], milliseconds(arrived))
    reader = stream.reader("A", "x")
    reader.done_up_to(reader.read(2)[-1].sequence)
    house.trim()
    other = stream.reader("A", "y")
    assert [record.data for record in other.read(9)] == [str(RETENTION_S - 1).encode()]
    reader.close()
    other.close()


def test_trimming_a_stream_that_fails_is_only_logged(house, stream, caplog, monkeypatch):
    def fail(older_than_ms):
        raise StoreError("disk full")

    monkeypatch.setattr(stream, "trim", fail)
    house.trim()
    assert "not trimmed" in caplog.text


def test_certificates_that_were_never_registered_go_after_an_hour(tmp_path, stream, caplog):
    caplog.set_level("INFO")
    clock = FakeClock(NOW)
    database = Database(tmp_path / "registry.db", MIGRATIONS, create=True)
    registry = SqliteRegistry(database, clock)
    house = Housekeeping(Dispatcher(load_rules(), "DLQ"), Traffic(), stream, registry, clock)
    claim = Principal(PrincipalKind.CLAIM, "claim", "e" * 64)
    authority = Authority.open_or_create(tmp_path / "pki", NOW)
    pem = authority.issue_provisioned(NOW).certificate_pem
    made = registry.requested.add(pem, "token", claim)
    clock.advance(TOKEN_LIFE_S - 1)
    house.remove_unregistered()
    assert registry.certificate(made.certificate_id) is not None
    clock.advance(2)
    house.remove_unregistered()
    assert registry.certificate(made.certificate_id) is None
    assert "removed 1 certificates" in caplog.text
    database.close()
    house.remove_unregistered()
    assert "stay for now" in caplog.text
