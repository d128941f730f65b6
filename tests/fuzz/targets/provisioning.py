"""Whatever a claim sends to the provisioning service, it is answered once and nobody slips in.

An input is one request; its first byte chooses the topic. ``TOKEN`` stands for the ownership
token of a certificate that was asked for before. An accepted registration is of a board that
is on the allow list, and every answer has the documented members.
"""

import itertools
import json
import logging
import tempfile
from pathlib import Path

from cloud.clock import SystemClock
from cloud.pki import Authority
from cloud.provisioning.ports import AllowedVehicle, Principal, PrincipalKind
from cloud.serve.device_services import Client
from cloud.serve.provisioning_service import ProvisioningService
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_fleet import SqliteFleet
from cloud.stores.sqlite_registry import SqliteRegistry
from contract.provisioning import (
    BY_CLAIM,
    CREATE_FROM_CSR,
    CREATE_KEYS,
    ROTATION,
    ProvisioningTopics,
    accepted,
    rejected,
)
from tests.fakes.provisioning import csr_of, new_key

TOPICS = [
    CREATE_FROM_CSR,
    ProvisioningTopics(BY_CLAIM).register,
    ProvisioningTopics(ROTATION).register,
    CREATE_KEYS,
]
TOKEN = b"TOKEN"
SEEDS = [
    b"0" + json.dumps({"certificateSigningRequest": csr_of(new_key())}).encode(),
    b"1" + json.dumps({"certificateOwnershipToken": "TOKEN", "parameters": {}}).encode(),
    b'1{"certificateOwnershipToken": "TOKEN", "parameters": {"SerialNumber": "S1"}}',
    b'2{"certificateOwnershipToken": "TOKEN", "parameters": {"ThingName": "van-1"}}',
    b"3{}",
]
TOKENS = [
    TOKEN,
    b'"certificateOwnershipToken":',
    b'"parameters":',
    b'"SerialNumber":',
    b'"ThingName":',
    b'"S1"',
    b"-----BEGIN CERTIFICATE REQUEST-----",
]
MAX_BYTES = 16 * 1024
TAKEN = itertools.count()

LOGS = [
    logging.getLogger(f"cloud.{name}")
    for name in ("serve.provisioning_service", "provisioning.hook")
]
FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")
HERE = Path(FOLDER.name)
CLOCK = SystemClock()
AUTHORITY = Authority.open_or_create(HERE / "pki", CLOCK.utc())
DATABASE = Database(HERE / "milepost.db", MIGRATIONS, create=True)
REGISTRY = SqliteRegistry(DATABASE, CLOCK)
FLEET = SqliteFleet(DATABASE, REGISTRY, AUTHORITY, CLOCK)
FLEET.allow([AllowedVehicle("S1", "van-1")])
SERVICE = ProvisioningService(AUTHORITY, REGISTRY, CLOCK)
CLAIM = Principal(PrincipalKind.CLAIM, "claim", FLEET.create_claim("claim", 1).certificate.serial)


async def nobody(_: object) -> None:
    """Answers are what ``answer`` returns."""


CLIENT = Client(CLAIM, "board-1", nobody)


def take(data: bytes) -> None:
    for one in LOGS:
        one.disabled = True  # a line for each refusal
    try:
        judge(data)
    finally:
        for one in LOGS:
            one.disabled = False
        if next(TAKEN) % 200 == 0:  # else there are too many after a thousand
            with DATABASE.write() as connection:
                connection.execute("DELETE FROM certificates WHERE status = 'PENDING_ACTIVATION'")


def judge(data: bytes) -> None:
    topic = TOPICS[data[0] % len(TOPICS)] if data else CREATE_KEYS
    payload = data[1:]
    if TOKEN in payload:
        payload = payload.replace(TOKEN, token())
    (answer,) = SERVICE.answer(CLIENT, topic, payload)
    document = json.loads(answer.payload)
    if answer.topic == rejected(topic):
        assert set(document) == {"statusCode", "errorCode", "errorMessage"}
        assert document["statusCode"] in {400, 403}
        return
    assert answer.topic == accepted(topic)
    if topic == TOPICS[1]:
        assert document == {"thingName": "van-1", "deviceConfiguration": {}}
        return
    assert topic != TOPICS[2], "a claim got the certificate of a vehicle"
    assert REGISTRY.certificate(document["certificateId"]) is not None


def token() -> bytes:
    """An ownership token that counts."""
    request = json.dumps({"certificateSigningRequest": csr_of(new_key())}).encode()
    (answer,) = SERVICE.answer(CLIENT, CREATE_FROM_CSR, request)
    return str(json.loads(answer.payload)["certificateOwnershipToken"]).encode()
