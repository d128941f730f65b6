import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws

from cloud.areas import parse_areas
from cloud.fleet_file import Fleet
from cloud.ports import Vehicle
from cloud.stores import Stores
from cloud.stores.aws import aws_stores
from cloud.stores.queries import Queries
from cloud.stores.sqlite import SqliteStores
from tests.fakes.clock import FakeClock

REGION = "eu-central-1"
TABLES = {
    "HISTORY_TABLE": ("history", True),
    "RUNS_TABLE": ("runs", True),
    "POSITIONS_TABLE": ("positions", False),
    "VEHICLES_TABLE": ("vehicles", False),
    "ALERTS_TABLE": ("alerts", True),
}
FRANKFURT = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "Frankfurt", "kind": "operating_area"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[8.6, 50.0], [8.8, 50.0], [8.8, 50.2], [8.6, 50.2], [8.6, 50.0]]],
            },
        }
    ],
}


@dataclass
class Installation:
    """Stores of one kind, and ways to look behind the ports."""

    name: str
    stores: Stores
    clock: FakeClock
    history: Callable[[str], list[dict[str, Any]]]
    position: Callable[[str], dict[str, Any] | None]
    letters: Callable[[], list[dict[str, Any]]]
    told: Callable[[], list[str]]
    objects: Callable[[], dict[str, bytes]]


@pytest.fixture
def frankfurt():
    return parse_areas(json.dumps(FRANKFURT), "frankfurt")


@pytest.fixture
def aws(monkeypatch):
    """AWS as moto plays it, with the template's tables; gives the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        dynamodb = boto3.client("dynamodb")
        for name, sorted_by_key in TABLES.values():
            keys = [("vehicle_id", "HASH"), ("item_key", "RANGE")][: 1 + sorted_by_key]
            dynamodb.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
                AttributeDefinitions=[
                    {"AttributeName": key, "AttributeType": "S"} for key, _ in keys
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        s3 = boto3.client("s3")
        for bucket in ("milepost-archive", "milepost-areas"):
            s3.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        s3.put_object(
            Bucket="milepost-areas", Key="areas.geojson", Body=json.dumps(FRANKFURT).encode()
        )
        sqs, sns = boto3.client("sqs"), boto3.client("sns")
        dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
        told = sqs.create_queue(QueueName="told")["QueueUrl"]
        topic = sns.create_topic(Name="alerts")["TopicArn"]
        arn = sqs.get_queue_attributes(QueueUrl=told, AttributeNames=["QueueArn"])
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
        yield {
            **{variable: name for variable, (name, _) in TABLES.items()},
            "ARCHIVE_BUCKET": "milepost-archive",
            "ALERTS_TOPIC_ARN": topic,
            "DEAD_LETTER_QUEUE_URL": dead,
            "OPERATING_AREAS_S3": "s3://milepost-areas/areas.geojson",
            "TOLD_QUEUE_URL": told,
        }


@pytest.fixture
def on_aws(aws):
    clock = FakeClock()
    stores = aws_stores(aws, clock)
    dynamodb, sqs, s3 = boto3.client("dynamodb"), boto3.client("sqs"), boto3.client("s3")
    dynamodb.put_item(
        TableName="vehicles",
        Item={
            "vehicle_id": {"S": "van-1"},
            "vehicle_type": {"S": "electric_van"},
            "display_name": {"S": "Van 1"},
        },
    )

    def history(vehicle_id):
        found = dynamodb.query(
            TableName="history",
            KeyConditionExpression="vehicle_id = :v",
            ExpressionAttributeValues={":v": {"S": vehicle_id}},
        )["Items"]
        return [
            {
                "kind": item["kind"]["S"],
                "sequence": int(item["sequence"]["N"]),
                "payload": json.loads(item["payload"]["S"]),
                "vehicle_type": item.get("vehicle_type", {}).get("S"),
                "geohash_zone": item.get("geohash_zone", {}).get("S"),
                "event_type": item.get("event_type", {}).get("S"),
            }
            for item in found
        ]

    def position(vehicle_id):
        item = dynamodb.get_item(TableName="positions", Key={"vehicle_id": {"S": vehicle_id}})
        if "Item" not in item:
            return None
        return {
            name: float(value["N"]) if "N" in value else next(iter(value.values()))
            for name, value in item["Item"].items()
        }

    seen = {"dead": {}, "told": []}

    def receive(url):
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])

    def letters():
        for body in receive(aws["DEAD_LETTER_QUEUE_URL"]):
            seen["dead"][body["letter_id"]] = body
        return [
            {"topic": one["topic"], "field": one["field"], "reason": one["reason"]}
            for one in seen["dead"].values()
        ]

    def told():
        seen["told"] += [json.loads(body["Message"]) for body in receive(aws["TOLD_QUEUE_URL"])]
        return [
            f"{one['kind']} {'resolved' if one['resolved_at'] else 'opened'}"
            for one in seen["told"]
        ]

    def objects():
        listed = s3.list_objects_v2(Bucket="milepost-archive").get("Contents", [])
        return {
            one["Key"]: s3.get_object(Bucket="milepost-archive", Key=one["Key"])["Body"].read()
            for one in listed
        }

    return Installation("aws", stores, clock, history, position, letters, told, objects)


@pytest.fixture
def on_one_machine(tmp_path, frankfurt):
    clock = FakeClock()
    fleet = Fleet({"van-1": Vehicle("van-1", "electric_van", "Van 1")})
    stores = SqliteStores.open(tmp_path / "data", frankfurt, fleet, clock)
    queries = Queries.open(tmp_path / "data", fleet)

    def history(vehicle_id):
        rows = stores.database.read(
            "SELECT kind, sequence, payload, vehicle_type, geohash_zone, event_type FROM history"
            " WHERE vehicle_id = ? ORDER BY timestamp_ms, run_id, sequence",
            (vehicle_id,),
        )
        names = ("kind", "sequence", "payload", "vehicle_type", "geohash_zone", "event_type")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return [{**one, "payload": json.loads(one["payload"])} for one in found]

    def position(vehicle_id):
        rows = stores.database.read(
            "SELECT position FROM positions WHERE vehicle_id = ?", (vehicle_id,)
        )
        return json.loads(rows[0][0]) if rows else None

    def letters():
        return [
            {name: one[name] for name in ("topic", "field", "reason")}
            for one in queries.dead_letters()
        ]

    def told():
        return [
            f"{kind} {state}"
            for kind, state in stores.database.read(
                "SELECT kind, state FROM notifications JOIN alerts USING (vehicle_id, alert_id)"
                " ORDER BY notifications.rowid"
            )
        ]

    def objects():
        root = stores.data_dir / "archive"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    yield Installation("sqlite", stores, clock, history, position, letters, told, objects)
    queries.close()
    stores.close()


@pytest.fixture(params=["sqlite", "aws"])
def installation(request):
    """Every implementation in turn."""
    return request.getfixturevalue({"sqlite": "on_one_machine", "aws": "on_aws"}[request.param])
