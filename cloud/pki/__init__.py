"""The one-machine cloud's own certificate authority.

Invariants:

1. An authority that is there is never overwritten: creation is one rename, and the
   loser of two creations uses the winner's.
2. Private keys are readable by their owner alone, from the first byte on.
3. Every certificate that was issued to a vehicle stays on file under its serial number,
   so that it can be listed and revoked; a vehicle's private key is handed out and not kept.

Layout, below ``DATA/pki`` (0700)::

    ca/certificate.pem  ca/key.pem      the authority (EC P-256)
    server.pem                          the server's key and certificate, renewed at start
    issued/<serial>.pem                 the certificates of vehicles
    revoked.json                        {serial: {"vehicle_id", "revoked_at"}}

Time is passed in; nothing here reads a clock.
"""

from cloud.pki.authority import Authority, Credentials, IssuedCertificate
from cloud.pki.issued import IssuedCertificates
from cloud.pki.revocation import read_revoked

__all__ = ["Authority", "Credentials", "IssuedCertificate", "IssuedCertificates", "read_revoked"]
