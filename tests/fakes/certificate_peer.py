"""AWS IoT's provisioning on a real Mosquitto, with answers that a test can spoil.

Written after AWS's documentation alone, as an independent peer: neither the agent's code
nor the one-machine cloud's. What differs between a claim and a rotation stands in
``provisioning_peer`` and ``rotation_peer``.
"""

import hashlib
import json
import ssl
import threading

import paho.mqtt.client as mqtt

CSR = "$aws/certificates/create-from-csr/json"


class CertificatePeer:
    """``requests`` keeps what was asked, ``issued`` the certificates' ids by token.

    ``spoil[topic]`` is a list of functions ``(peer, topic, request)``, each used once in place
    of the good answer; its topics are those that are listened to.
    """

    client_id: str

    def __init__(self, pki, identity, port, name, topics):
        self.pki, self.name = pki, name
        self.requests = []
        self.issued = {}
        self.spoil = {topic: [] for topic in topics}
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.client_id)
        context = ssl.create_default_context(cafile=str(identity.ca_file))
        context.load_cert_chain(identity.certificate_file, identity.key_file)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda c, *_: c.subscribe([(one, 1) for one in self.spoil])
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("localhost", port)
        self._client.loop_start()
        assert self._ready.wait(15)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def asked(self, topic):
        return [request for where, request in self.requests if where == topic]

    def _on_message(self, _client, _userdata, message):
        request = json.loads(message.payload)
        self.requests.append((message.topic, request))
        if self.spoil[message.topic]:
            self.spoil[message.topic].pop(0)(self, message.topic, request)
        else:
            self.answer_well(message.topic, request)

    def answer_well(self, topic, request):
        if topic == CSR:
            self.issue(topic, request, self.pki)
        else:
            assert request["certificateOwnershipToken"] in self.issued
            self.registers(request)
            self.say(f"{topic}/accepted", {"thingName": self.name, "deviceConfiguration": {}})

    def registers(self, request):
        """A registration is about to be let through."""
        raise NotImplementedError

    def issue(self, topic, request, pki):
        pem = pki.sign(request["certificateSigningRequest"].encode())
        number, token = hashlib.sha256(pem).hexdigest(), f"token-{len(self.issued)}"
        self.issued[token] = number
        answer = {
            "certificateOwnershipToken": token,
            "certificateId": number,
            "certificatePem": pem.decode(),
        }
        self.say(f"{topic}/accepted", answer)

    def say(self, topic, answer):
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._client.publish(topic, payload, qos=1)


# --- how an answer may be spoilt -----------------------------------------------------


def silent(_peer, _topic, _request):
    """No answer."""


def twice(peer, topic, request):
    peer.answer_well(topic, request)
    peer.answer_well(topic, request)


def rejected(status, code, message):
    def spoil(peer, topic, _request):
        answer = {"statusCode": status, "errorCode": code, "errorMessage": message}
        peer.say(f"{topic}/rejected", answer)

    return spoil


def says(answer, end="accepted"):
    return lambda peer, topic, _request: peer.say(f"{topic}/{end}", answer)


def issued_by(pki):
    """The certificate is signed by a CA that the broker does not know."""
    return lambda peer, topic, request: peer.issue(topic, request, pki)


def for_another_key(peer, topic, _request):
    """The certificate is of a key that the vehicle does not have."""
    answer = {
        "certificateOwnershipToken": "t",
        "certificateId": "c",
        "certificatePem": peer.pki.vehicle("foreign").certificate_file.read_text(),
    }
    peer.say(f"{topic}/accepted", answer)
