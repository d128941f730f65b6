"""The X.509 side of the authority: which certificates are made, and their PEM form.

A certificate is known by its id, the SHA-256 fingerprint that AWS IoT calls so too.

A vehicle whose clock stands before ``not_before`` refuses the server, so validity starts
an hour early.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 20 * 365
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CLOCK_TOLERANCE: Final = timedelta(hours=1)
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
VEHICLE: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key (EC P-256) and the certificate of its public half."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Self:
        """Read both.

        Raises:
            ValueError: one of them is broken, or they do not belong together.
            TypeError: the key is encrypted.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, None)
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
        ):
            msg = "the key does not belong to the certificate"
            raise ValueError(msg)
        return cls(key, certificate)

    @property
    def key_pem(self) -> bytes:
        """PKCS #8, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return pem_of(self.certificate)


def make_authority(now: datetime) -> KeyPair:
    """A new authority, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Milepost one-machine authority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(key, certificate)


def sign(
    authority: KeyPair,
    *,
    common_name: str,
    names: Iterable[str] = (),
    usage: x509.ObjectIdentifier,
    now: datetime,
    days: int,
) -> KeyPair:
    """A new key with a certificate for one purpose, no longer valid than the authority's.

    ``names`` are the host names and addresses that it stands for.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign_key(
        authority,
        key.public_key(),
        common_name=common_name,
        names=names,
        usage=usage,
        now=now,
        days=days,
    )
    return KeyPair(key, certificate)


def sign_key(
    authority: KeyPair,
    public_key: PublicKey,
    *,
    common_name: str,
    names: Iterable[str] = (),
    usage: x509.ObjectIdentifier,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """A certificate for a key whose private half is somebody else's; otherwise as ``sign``."""
    not_after = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    alternatives = [_general_name(name) for name in names]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def revocation_list(
    authority: KeyPair, serials: Iterable[str], *, now: datetime, days: int
) -> bytes:
    """A list of revoked serial numbers (lower-case hexadecimal), signed (PEM)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - CLOCK_TOLERANCE)
        .next_update(now + timedelta(days=days))
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    signed = builder.sign(authority.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def common_name_of(certificate: x509.Certificate) -> str:
    """Whom the certificate was issued to."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def names_of(certificate: x509.Certificate) -> set[str]:
    """The host names and addresses that the certificate stands for.

    Raises:
        x509.ExtensionNotFound: it names none.
    """
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = set(names.get_values_for_type(x509.DNSName))
    return hosts | {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}


def certificate_id_of(certificate: x509.Certificate) -> str:
    """What AWS IoT calls ``certificateId``."""
    return certificate_id_of_der(certificate.public_bytes(serialization.Encoding.DER))


def certificate_id_of_der(certificate_der: bytes) -> str:
    """The same, of a certificate as TLS shows it: its SHA-256, lower-case hexadecimal."""
    return sha256(certificate_der).hexdigest()


def pem_of(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number, lower-case hexadecimal."""
    return f"{certificate.serial_number:x}"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
