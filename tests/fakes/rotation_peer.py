"""What rotation asks of the cloud; see ``certificate_peer``.

It is what a vehicle of any transport can rotate against; it knows nothing of active and
inactive certificates, which the one-machine cloud's tests are for.
"""

from tests.fakes.certificate_peer import CSR, CertificatePeer

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


class RotationPeer(CertificatePeer):
    """Has no shadow, and says so."""

    client_id = "rotation-peer"

    def __init__(self, pki, identity, port, vehicle_id="van-1"):
        self.shadow = SHADOW.format(vehicle_id)
        super().__init__(pki, identity, port, vehicle_id, (CSR, REGISTER, self.shadow))

    def answer_well(self, topic, request):
        if topic == self.shadow:
            answer = {"code": 404, "message": "no shadow", "clientToken": request["clientToken"]}
            self.say(f"{topic}/rejected", answer)
        else:
            super().answer_well(topic, request)

    def registers(self, request):
        assert request["parameters"] == {"ThingName": self.name}
