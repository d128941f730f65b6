"""A board that provisions itself by hand: paho requests on the reserved topics, keys made here."""

import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract.provisioning import BY_CLAIM, CREATE_FROM_CSR, ProvisioningTopics, accepted, rejected
from tests.fakes.one_machine import Vehicle, wait_until

REGISTER = ProvisioningTopics(BY_CLAIM).register


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key, name="a board"):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Asker:
    """Asks on a connection that is there; answers are ``(accepted?, document)``."""

    def __init__(self, client: Vehicle):
        self.client = client
        self.heard = set()

    def ask(self, topic, payload):
        for answer in (accepted(topic), rejected(topic)):
            if answer not in self.heard:
                assert self.client.subscribe(answer) == [1], answer
                self.heard.add(answer)
        seen = len(self.client.received)
        data = payload if isinstance(payload, (bytes, str)) else json.dumps(payload)
        self.client.publish_acked(topic, data)
        wait_until(lambda: len(self.client.received) > seen, f"an answer on {topic}")
        message = self.client.received[seen]
        assert message.topic in {accepted(topic), rejected(topic)}
        return message.topic == accepted(topic), json.loads(message.payload)

    def certificate(self, key=None):
        """CreateCertificateFromCsr; the accepted answer."""
        key = key or new_key()
        fine, answer = self.ask(CREATE_FROM_CSR, {"certificateSigningRequest": csr_of(key)})
        assert fine, answer
        return answer

    def register(self, token, serial_number=None, topic=REGISTER, **parameters):
        """RegisterThing; ``(accepted?, document)``."""
        if serial_number is not None:
            parameters["SerialNumber"] = serial_number
        return self.ask(topic, {"certificateOwnershipToken": token, "parameters": parameters})


def write_identity(folder, ca_pem, certificate_pem, key):
    """The files that a client connects with; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(ca_pem)
    (folder / "certificate.pem").write_text(certificate_pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder
