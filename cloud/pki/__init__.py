"""The one-machine cloud's own certificate authority.

Invariants:

1. An authority that is there is never overwritten: creation is one rename, and the
   loser of two creations uses the winner's.
2. Private keys are readable by their owner alone, from the first byte on.
3. A client's private key is handed out and not kept. Which certificates there are, whose
   they are and whether they count stands in the registry (``cloud.provisioning``).

Layout, below ``DATA/pki`` (0700)::

    ca/certificate.pem  ca/key.pem      the authority (EC P-256)
    server.pem                          the server's key and certificate, renewed at start

Time is passed in; nothing here reads a clock.
"""

from cloud.pki.authority import Authority, Credentials, check_vehicle_id
from cloud.pki.certificates import certificate_id_of, certificate_id_of_der, serial_of
from cloud.pki.csr import MAX_CSR_BYTES

__all__ = [
    "MAX_CSR_BYTES",
    "Authority",
    "Credentials",
    "certificate_id_of",
    "certificate_id_of_der",
    "check_vehicle_id",
    "serial_of",
]
