"""Certificates for tests: a CA, a broker's and vehicles', also expired or foreign ones."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)  # noqa: DTZ011, TID251, RUF100  real peers check against the real time


@dataclass(frozen=True)
class Identity:
    """Where the three PEM files of one peer are."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


def _name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write(path, content, mode=0o644):
    path.write_bytes(content)
    path.chmod(mode)
    return path


class Pki:
    """One CA in ``folder``, which may be given to other programs to read."""

    def __init__(self, folder, name="Test CA"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(name))
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=10))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = _write(
            self.folder / "ca.pem", self._certificate.public_bytes(serialization.Encoding.PEM)
        )

    def broker(self, *, names=("localhost",), addresses=("127.0.0.1",), valid_days=(-1, 5)):
        """A server certificate for these names and addresses."""
        alternatives = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in addresses]
        return self._issue(
            "broker",
            ExtendedKeyUsageOID.SERVER_AUTH,
            valid_days,
            x509.SubjectAlternativeName(alternatives),
        )

    def vehicle(self, vehicle_id, *, valid_days=(-1, 5)):
        """A client certificate whose common name is the vehicle's id."""
        return self._issue(vehicle_id, ExtendedKeyUsageOID.CLIENT_AUTH, valid_days)

    def revoke(self, identity):
        """The list of revoked certificates, with this one on it (PEM)."""
        certificate = x509.load_pem_x509_certificate(identity.certificate_file.read_bytes())
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(NOW - timedelta(hours=1))
            .build()
        )
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(NOW - timedelta(hours=1))
            .next_update(NOW + timedelta(days=5))
            .add_revoked_certificate(entry)
            .sign(self._key, hashes.SHA256())
        )
        return _write(self.folder / "revoked.pem", revoked.public_bytes(serialization.Encoding.PEM))

    def sign(self, request_pem, *, valid_days=(-1, 5)):
        """The certificate (PEM) for a PKCS #10 request."""
        request = x509.load_pem_x509_csr(request_pem)
        builder = self._builder(
            request.subject,
            ExtendedKeyUsageOID.CLIENT_AUTH,
            valid_days,
            request.public_key(),
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject, usage, valid_days, public_key):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=valid_days[0]))
            .not_valid_after(NOW + timedelta(days=valid_days[1]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _issue(self, common_name, usage, valid_days, alternatives=None):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name), usage, valid_days, key.public_key())
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Identity(
            self.ca_file,
            _write(
                self.folder / f"{common_name}.crt.pem",
                certificate.public_bytes(serialization.Encoding.PEM),
            ),
            _write(self.folder / f"{common_name}.key.pem", pem, 0o600),
        )
