"""AWS's own identity clients against the embedded broker: MQTT 3.1.1 by awscrt."""

import pytest

pytest.importorskip("awsiot", reason="awsiotsdk (the extra provision) is not installed")

from awscrt import mqtt
from awscrt.mqtt_request_response import ClientOptions
from awsiot import V2ServiceException, iotidentity, mqtt_connection_builder

from contract.provisioning import BY_CLAIM
from tests.fakes.one_machine import DEADLINE_S, Vehicle, sample_json, wait_until
from tests.fakes.provisioning import csr_of, new_key
from tests.fakes.provisioning_cloud import Cloud


@pytest.fixture
def cloud(tmp_path):
    with Cloud(tmp_path) as running:
        running.allow("S1", "van-1")
        yield running


@pytest.fixture(params=[True, False], ids=["clean session", "persistent session"])
def connection(cloud, request):
    folder = cloud.claim_folder()
    made = mqtt_connection_builder.mtls_from_path(
        endpoint="localhost",
        port=cloud.port,
        cert_filepath=str(folder / "certificate.pem"),
        pri_key_filepath=str(folder / "key.pem"),
        ca_filepath=str(folder / "ca.pem"),
        client_id="claim-board-1",
        clean_session=request.param,
        keep_alive_secs=30,
    )
    made.connect().result(DEADLINE_S)
    yield made
    made.disconnect().result(DEADLINE_S)


def test_the_second_client_provisions_a_board(cloud, connection):
    options = ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=0)
    client = iotidentity.IotIdentityClientV2(connection, options)
    key = new_key()
    created = client.create_certificate_from_csr(
        iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr_of(key))
    ).result(DEADLINE_S)

    def register(serial_number):
        return client.register_thing(
            iotidentity.RegisterThingRequest(
                template_name=BY_CLAIM,
                certificate_ownership_token=created.certificate_ownership_token,
                parameters={"SerialNumber": serial_number},
            )
        ).result(DEADLINE_S)

    with pytest.raises(V2ServiceException) as refused:
        register("S2")
    assert refused.value.modeled_error.error_code == "AccessDenied"
    assert refused.value.modeled_error.status_code == 403
    assert register("S1").thing_name == "van-1"
    answer = {"certificatePem": created.certificate_pem}
    with Vehicle(cloud.port, cloud.identity_of(answer, key, "van-1"), "van-1") as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())


def test_the_first_client_provisions_a_board(cloud, connection):
    client = iotidentity.IotIdentityClient(connection)
    heard = []
    qos = mqtt.QoS.AT_LEAST_ONCE
    by_csr = iotidentity.CreateCertificateFromCsrSubscriptionRequest()
    by_template = iotidentity.RegisterThingSubscriptionRequest(template_name=BY_CLAIM)
    for subscribe, request in (
        (client.subscribe_to_create_certificate_from_csr_accepted, by_csr),
        (client.subscribe_to_create_certificate_from_csr_rejected, by_csr),
        (client.subscribe_to_register_thing_accepted, by_template),
        (client.subscribe_to_register_thing_rejected, by_template),
    ):
        subscribe(request, qos, heard.append)[0].result(DEADLINE_S)
    client.publish_create_certificate_from_csr(
        iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr_of(new_key())),
        qos,
    ).result(DEADLINE_S)
    created = wait_until(lambda: heard[0:1], "the certificate")[0]
    client.publish_register_thing(
        iotidentity.RegisterThingRequest(
            template_name=BY_CLAIM,
            certificate_ownership_token=created.certificate_ownership_token,
            parameters={"SerialNumber": "S1"},
        ),
        qos,
    ).result(DEADLINE_S)
    assert wait_until(lambda: heard[1:2], "the name")[0].thing_name == "van-1"
