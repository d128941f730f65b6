"""What only AWS has: throttling, errors of the services, areas that change."""

from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cloud.errors import ConfigError, StoreError
from cloud.stores.aws import aws_stores
from cloud.stores.dynamodb import MAX_TRIES, DynamoHotStore
from tests.fakes import kinesis
from tests.fakes.clock import FakeClock

NOW = datetime(2025, 1, 15, 12, 0, 0, tzinfo=UTC)


def rows(count):
    return [kinesis.enriched_sample(kinesis.sample(sequence=n), NOW) for n in range(1, count + 1)]


class Throttled:
    """Takes at most ``takes`` items of a request and gives the rest back, as DynamoDB does."""

    def __init__(self, client, takes):
        self.client = client
        self.takes = takes
        self.requests = 0

    def batch_write_item(self, RequestItems):  # noqa: N803  boto3's name
        self.requests += 1
        ((table, items),) = RequestItems.items()
        now, later = items[: self.takes], items[self.takes :]
        if now:
            self.client.batch_write_item(RequestItems={table: now})
        return {"UnprocessedItems": {table: later} if later else {}}


def stored(aws):
    return boto3.client("dynamodb").scan(TableName=aws["HISTORY_TABLE"])["Items"]


def test_items_given_back_are_sent_again_after_a_pause(aws):
    clock = FakeClock()
    client = Throttled(boto3.client("dynamodb"), takes=10)
    DynamoHotStore(client, "history", clock).put_samples(rows(25))
    assert len(stored(aws)) == 25
    assert client.requests == 3
    assert len(clock.slept_s) == 2


def test_a_table_that_takes_nothing_is_given_up_and_the_waits_grow(aws):
    clock = FakeClock()
    client = Throttled(None, takes=0)
    with pytest.raises(StoreError, match="25 items not taken"):
        DynamoHotStore(client, "history", clock).put_samples(rows(25))
    assert client.requests == MAX_TRIES
    assert sum(clock.slept_s) < 0.05 * 2**MAX_TRIES


def test_items_expire_when_the_retention_is_limited(aws):
    stores = aws_stores({**aws, "HISTORY_RETENTION_DAYS": "90"}, FakeClock())
    stores.hot.put_samples(rows(1))
    (item,) = stored(aws)
    assert int(item["expires_at"]["N"]) == int(NOW.timestamp()) + 90 * 86400
    with pytest.raises(ConfigError, match="HISTORY_RETENTION_DAYS"):
        _ = aws_stores({**aws, "HISTORY_RETENTION_DAYS": "soon"}).hot


@pytest.mark.parametrize(
    "call",
    [
        lambda stores: stores.hot.put_samples(rows(1)),
        lambda stores: stores.register.find("van-1"),
        lambda stores: stores.alerts.alert("van-1", "x"),
        lambda stores: stores.archive.put("a", b""),
        lambda stores: stores.areas.current(),
    ],
)
def test_errors_of_the_services_are_store_errors(aws, call):
    missing = dict.fromkeys(aws, "there-is-none")
    missing["OPERATING_AREAS_S3"] = "s3://there-is-none/areas.geojson"
    with pytest.raises(StoreError, match="there-is-none") as caught:
        call(aws_stores(missing, FakeClock()))
    assert isinstance(caught.value.__cause__, ClientError)


def test_a_network_that_is_gone_is_a_store_error():
    class Gone:
        def get_item(self, **_):
            raise EndpointConnectionError(endpoint_url="https://dynamodb")

    from cloud.stores.dynamodb import DynamoVehicleRegister  # noqa: PLC0415  beside its use

    with pytest.raises(StoreError, match="vehicles"):
        DynamoVehicleRegister(Gone(), "vehicles").find("van-1")


def test_a_variable_that_is_not_set_is_named_when_its_store_is_used(aws):
    stores = aws_stores({}, FakeClock())
    with pytest.raises(ConfigError, match="HISTORY_TABLE"):
        stores.hot.put_samples([])
    assert stores.areas.current().outside_by_m(1, 1) is None
    with pytest.raises(ConfigError, match="OPERATING_AREAS_S3"):
        aws_stores({"OPERATING_AREAS_S3": "bucket-only"}, FakeClock())


def test_areas_are_read_anew_and_a_wrong_upload_does_not_take_them_away(aws):
    clock = FakeClock()
    areas = aws_stores(aws, clock).areas
    s3 = boto3.client("s3")
    assert areas.current().outside_by_m(50.1, 8.7) < 0
    s3.put_object(Bucket="milepost-areas", Key="areas.geojson", Body=b"wrong")
    assert areas.current().outside_by_m(50.1, 8.7) < 0
    clock.advance(301)
    assert areas.current().outside_by_m(50.1, 8.7) < 0
    empty = b'{"type": "FeatureCollection", "features": []}'
    s3.put_object(Bucket="milepost-areas", Key="areas.geojson", Body=empty)
    clock.advance(301)
    assert areas.current().outside_by_m(50.1, 8.7) is None


def test_a_vehicle_without_a_type_in_the_register_is_unknown(aws):
    item = {"vehicle_id": {"S": "van-7"}, "display_name": {"S": "x"}}
    boto3.client("dynamodb").put_item(TableName="vehicles", Item=item)
    assert aws_stores(aws, FakeClock()).register.find("van-7") is None
