"""A fleet's registry of each kind, and boards that register with it.

On one machine the real provisioning service answers. On AWS moto has certificates and
things but no fleet provisioning, so what AWS IoT does around the hook is played here: a
PENDING certificate for a request, and after the hook's yes its policies, thing and status.
"""

import json
from dataclasses import dataclass

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.clock import SystemClock
from cloud.handlers.allow_registration import AllowRegistration
from cloud.pki import Authority
from cloud.provisioning.ports import CertificateStatus, Principal, PrincipalKind
from cloud.serve.device_services import Client
from cloud.serve.provisioning_service import ProvisioningService
from cloud.stores.aws_fleet import AwsFleet, Policies
from cloud.stores.dynamodb_allow_list import DynamoAllowList
from cloud.stores.dynamodb_registrations import DynamoRegistrations
from cloud.stores.iot_certificates import IotCertificates
from cloud.stores.sqlite import SqliteStores
from cloud.stores.sqlite_fleet import SqliteFleet
from cloud.stores.sqlite_registry import SqliteRegistry
from contract.provisioning import BY_CLAIM, CREATE_FROM_CSR, ROTATION, ProvisioningTopics
from tests.fakes.clock import FakeClock

TEMPLATE_ARN = "arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/"
TABLE, REGISTER = "registrations", "vehicles"
VEHICLE_POLICIES = ("milepost_vehicle", "milepost_vehicle_services")
CLAIM_POLICY = "milepost_claim"


def signing_request():
    """A request as a board makes it (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Asked:
    """A certificate that was asked for and not registered yet."""

    certificate_id: str
    register: object
    """Ask to register it with parameters: the thing's name, or None when refused."""


class OnOneMachine:
    """SQLite, and the service that the broker calls."""

    def __init__(self, folder):
        self.clock = FakeClock(SystemClock().utc())
        self._stores = SqliteStores.open(folder, clock=self.clock)
        self.registry = SqliteRegistry(self._stores.database, self.clock)
        self._authority = Authority.open_or_create(folder / "pki", self.clock.utc())
        self.fleet = SqliteFleet(self._stores.database, self.registry, self._authority, self.clock)
        self._service = ProvisioningService(self._authority, self.registry, self.clock)

    def by_hand(self, vehicle_id):
        """A certificate that an operator carries to the vehicle; its id."""
        self.clock.advance(1)
        made = self._authority.issue(vehicle_id, self.clock.utc())
        return self.registry.add_vehicle(vehicle_id, made.certificate_pem).certificate_id

    def ask(self, template, asking_id, client_id):
        """A certificate for a request, asked for over another."""
        self.clock.advance(1)
        kind = PrincipalKind.CLAIM if template == BY_CLAIM else PrincipalKind.VEHICLE
        client = Client(Principal(kind, client_id, asking_id), client_id, None)

        def call(topic, document):
            (told,) = self._service.answer(client, topic, json.dumps(document).encode())
            return told.topic.rpartition("/")[2], json.loads(told.payload)

        outcome, made = call(CREATE_FROM_CSR, {"certificateSigningRequest": signing_request()})
        assert outcome == "accepted", made

        def register(parameters):
            outcome, answer = call(
                ProvisioningTopics(template).register,
                {
                    "certificateOwnershipToken": made["certificateOwnershipToken"],
                    "parameters": parameters,
                },
            )
            return answer["thingName"] if outcome == "accepted" else None

        return Asked(made["certificateId"], register)

    def stop(self):
        self._stores.close()


class OnAws:
    """DynamoDB and AWS IoT as moto plays them, with the template's table and policies."""

    def __init__(self):
        self.clock = FakeClock(SystemClock().utc())
        self.iot, self.dynamodb = boto3.client("iot"), boto3.client("dynamodb")
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "item_key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "item_key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for policy in (*VEHICLE_POLICIES, CLAIM_POLICY):
            self.iot.create_policy(policyName=policy, policyDocument="{}")
        self.registry = DynamoRegistrations(
            self.dynamodb, TABLE, IotCertificates(self.iot), self.clock
        )
        allow_list = DynamoAllowList(self.dynamodb, TABLE, REGISTER, self.registry)
        policies = Policies(VEHICLE_POLICIES[0], CLAIM_POLICY)
        self.fleet = AwsFleet(self.iot, allow_list, policies, self.clock)
        self._hook = AllowRegistration(self.registry)

    def by_hand(self, vehicle_id):
        """A certificate that an operator carries to the vehicle; its id."""
        made = self.iot.create_keys_and_certificate(setAsActive=True)
        self._attach(vehicle_id, made["certificateArn"], {})
        return made["certificateId"]

    def ask(self, template, asking_id, client_id):
        """A certificate for a request, asked for over another."""
        made = self.iot.create_certificate_from_csr(
            certificateSigningRequest=signing_request(), setAsActive=False
        )
        self.iot.update_certificate(
            certificateId=made["certificateId"], newStatus="PENDING_ACTIVATION"
        )

        def register(parameters):
            event = {
                "claimCertificateId": asking_id,
                "certificateId": made["certificateId"],
                "certificatePem": made["certificatePem"],
                "templateArn": f"{TEMPLATE_ARN}{template}",
                "clientId": client_id,
                "parameters": parameters,
            }
            answer = self._hook(event, None)
            if not answer["allowProvisioning"]:
                return None
            overridden = {**parameters, **answer["parameterOverrides"]}
            attributes = {}
            if template == BY_CLAIM:
                attributes = {
                    "serial_number": overridden["SerialNumber"],
                    "vehicle_type": overridden["VehicleType"],
                }
            self._attach(overridden["ThingName"], made["certificateArn"], attributes)
            self.iot.update_certificate(certificateId=made["certificateId"], newStatus="ACTIVE")
            return overridden["ThingName"]

        return Asked(made["certificateId"], register)

    def _attach(self, vehicle_id, arn, attributes):
        self.iot.create_thing(thingName=vehicle_id, attributePayload={"attributes": attributes})
        for policy in VEHICLE_POLICIES:
            self.iot.attach_policy(policyName=policy, target=arn)
        self.iot.attach_thing_principal(thingName=vehicle_id, principal=arn)

    def stop(self):
        """Nothing to do; moto forgets."""


def board(place, serial_number="S1", claim_id="c" * 64):
    """A board with a claim certificate that has asked for a certificate of its own."""
    asked = place.ask(BY_CLAIM, claim_id, f"claim-{serial_number}")
    asked.register_board = lambda: asked.register({"SerialNumber": serial_number})
    return asked


def rotating(place, vehicle_id, present_id, *, client_id=None, thing_name=None):
    """A vehicle that has asked for its next certificate."""
    asked = place.ask(ROTATION, present_id, client_id or vehicle_id)
    asked.register_next = lambda: asked.register({"ThingName": thing_name or vehicle_id})
    return asked


def active(place, vehicle_id):
    """The ids of a vehicle's ACTIVE certificates."""
    return {
        one.certificate_id
        for one in place.fleet.describe(vehicle_id).certificates
        if one.status is CertificateStatus.ACTIVE
    }
