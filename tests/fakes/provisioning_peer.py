"""A provisioning service on a real Mosquitto whose answers a test can spoil.

Written after AWS's documentation alone, as an independent peer: neither the agent's code
nor the one-machine cloud's.
"""

import hashlib
import json
import ssl
import threading

import paho.mqtt.client as mqtt

CSR = "$aws/certificates/create-from-csr/json"
TEMPLATE = "milepost_by_claim"
REGISTER = f"$aws/provisioning-templates/{TEMPLATE}/provision/json"
ACL = f"""
user listener
topic readwrite #
topic readwrite $aws/certificates/#
topic readwrite $aws/provisioning-templates/#

user claim
topic write {CSR}
topic read {CSR}/accepted
topic read {CSR}/rejected
topic write {REGISTER}
topic read {REGISTER}/accepted
topic read {REGISTER}/rejected
"""
"""What the claim may: this template, and nothing else."""


class ProvisioningPeer:
    """``requests`` keeps what was asked.

    ``spoil[topic]`` is a list of functions ``(peer, topic, request)``, each used once in place
    of the good answer.
    """

    def __init__(self, pki, identity, port, name="van-7"):
        self.pki, self.name = pki, name
        self.requests = []
        self.issued = {}
        self.registered = []
        self.spoil = {CSR: [], REGISTER: []}
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="listener")
        context = ssl.create_default_context(cafile=str(identity.ca_file))
        context.load_cert_chain(identity.certificate_file, identity.key_file)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda c, *_: c.subscribe([(CSR, 1), (REGISTER, 1)])
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
            pem = self.pki.sign(request["certificateSigningRequest"].encode())
            number = hashlib.sha256(pem).hexdigest()
            token = f"token-{len(self.issued)}"
            self.issued[token] = pem
            answer = {
                "certificateOwnershipToken": token,
                "certificateId": number,
                "certificatePem": pem.decode(),
            }
        else:
            assert request["certificateOwnershipToken"] in self.issued
            self.registered.append(request)
            answer = {"thingName": self.name, "deviceConfiguration": {}}
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


def for_another_key(peer, topic, _request):
    foreign = peer.pki.vehicle("foreign").certificate_file.read_text()
    answer = {
        "certificateOwnershipToken": "t",
        "certificateId": "c",
        "certificatePem": foreign,
    }
    peer.say(f"{topic}/accepted", answer)
