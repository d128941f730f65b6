"""What a board with a claim certificate asks of the cloud; see ``certificate_peer``."""

from tests.fakes.certificate_peer import CSR, CertificatePeer

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


class ProvisioningPeer(CertificatePeer):
    """``registered`` keeps the registrations that were let through."""

    client_id = "listener"

    def __init__(self, pki, identity, port, name="van-7"):
        self.registered = []
        super().__init__(pki, identity, port, name, (CSR, REGISTER))

    def registers(self, request):
        self.registered.append(request)
