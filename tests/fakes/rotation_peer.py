"""What rotation asks of the cloud, on a real Mosquitto, with answers that a test can spoil.

Written after AWS's documentation alone. It is what a vehicle of any transport can rotate
against; it knows nothing of active and inactive certificates, which the one-machine cloud's
tests are for. The ways to spoil an answer are those of ``provisioning_peer``.
"""

import hashlib
import json
import ssl
import threading

import paho.mqtt.client as mqtt

CSR = "$aws/certificates/create-from-csr/json"
REGISTER = "$aws/provisioning-templates/milepost_rotation/provision/json"
SHADOW = "$aws/things/{}/shadow/name/milepost/get"
ACL = f"""
pattern write {CSR}
pattern read {CSR}/+
pattern write {REGISTER}
pattern read {REGISTER}/+

user listener
topic readwrite $aws/certificates/#
topic readwrite $aws/provisioning-templates/#
"""


class RotationPeer:
    """Answers what the vehicle asks.

    ``spoil[topic]`` is a list of functions ``(peer, topic, request)``, each used once in place
    of the good answer; ``requests`` keeps what was asked, ``issued`` the certificates.
    """

    def __init__(self, pki, identity, port, vehicle_id="van-1"):
        self.pki, self.name = pki, vehicle_id
        self.shadow = SHADOW.format(vehicle_id)
        self.requests = []
        self.issued = {}
        self.spoil = {CSR: [], REGISTER: [], self.shadow: []}
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="rotation-peer")
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
        if topic == self.shadow:
            answer = {"code": 404, "message": "no shadow", "clientToken": request["clientToken"]}
            self.say(f"{topic}/rejected", answer)
        elif topic == CSR:
            self.issue(topic, request, self.pki)
        else:
            assert request["certificateOwnershipToken"] in self.issued
            assert request["parameters"] == {"ThingName": self.name}
            self.say(f"{topic}/accepted", {"thingName": self.name, "deviceConfiguration": {}})

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


def issued_by(pki):
    """The certificate is signed by a CA that the broker does not know."""
    return lambda peer, topic, request: peer.issue(topic, request, pki)


def for_another_key(peer, topic, request):
    """The certificate is of a key that the vehicle does not have."""
    answer = {
        "certificateOwnershipToken": "t",
        "certificateId": "c",
        "certificatePem": peer.pki.vehicle("foreign").certificate_file.read_text(),
    }
    peer.say(f"{topic}/accepted", answer)
