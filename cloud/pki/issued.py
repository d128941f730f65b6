"""Who shows a certificate, by what the authority has on file."""

from __future__ import annotations

from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import serial_of


class IssuedCertificates:
    """Implements ``cloud.serve.file_exchange.Principals``; any thread."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def vehicle_of(self, certificate_der: bytes) -> str | None:
        """The vehicle that it was issued to, unless it is revoked."""
        serial = serial_of(x509.load_der_x509_certificate(certificate_der))
        return next(
            (
                one.vehicle_id
                for one in self._authority.issued()
                if one.serial == serial and one.revoked_at is None
            ),
            None,
        )
