"""Making the vehicle's private key where it stays, and signing a request with it.

A key in a file is made here and written once, by the store; a key in a PKCS#11 token is made
in the token (:mod:`agent.identity.token`) and cannot be read out of it. Both are EC P-256:
AWS IoT Core takes it, every TPM 2.0 has it, and its handshake is the smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from agent.config import Pkcs11Settings
from agent.errors import IdentityError
from agent.identity.records import Pending
from agent.identity.store import IdentityStore

_MOST_COMMON_NAME: Final = 64
"""RFC 5280, appendix A: ub-common-name."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """What ``IdentityStore.begin`` is given: a PEM, or the label of a key in the token."""

    key_pem: bytes | None = None
    key_label: str | None = None


class KeyMaker(Protocol):
    """Where keys are made and used. Every method may raise ``IdentityError``."""

    def check(self) -> str:
        """See that keys can be made there; the answer says where, for a person."""
        ...

    def make(self, store: IdentityStore) -> NewKey:
        """A new key for the next generation; what an earlier try left in its place is gone."""
        ...

    def private_key(self, pending: Pending) -> ec.EllipticCurvePrivateKey:
        """The pending key; it may be one that can do no more than sign."""
        ...

    def made(self, pending: Pending) -> bool:
        """Whether the pending key is one of this kind."""
        ...


class FileKeys:
    """Keys as PEM files, unencrypted PKCS #8."""

    def check(self) -> str:
        """See ``KeyMaker``."""
        return "in a file"

    def make(self, store: IdentityStore) -> NewKey:
        """See ``KeyMaker``."""
        del store
        key = ec.generate_private_key(ec.SECP256R1())
        return NewKey(key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def private_key(self, pending: Pending) -> ec.EllipticCurvePrivateKey:
        """See ``KeyMaker``."""
        if pending.key_file is None:
            raise IdentityError("the pending key is in a token", hint="Discard it and begin again.")
        try:
            key = load_pem_private_key(pending.key_file.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise IdentityError(
                f"the pending key {pending.key_file} cannot be used: {error}",
                hint="Remove the folder identity/pending in state.dir, and begin again.",
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise IdentityError(f"{pending.key_file} is no EC key", hint="Begin again.")
        return key

    def made(self, pending: Pending) -> bool:
        """See ``KeyMaker``."""
        return pending.key_file is not None


def key_maker(token: Pkcs11Settings | None) -> KeyMaker:
    """As the config says: in ``[broker.pkcs11]``'s token, or in files."""
    if token is None:
        return FileKeys()
    from agent.identity.token import TokenKeys  # noqa: PLC0415  an optional extra

    return TokenKeys(token)


def signing_request(key: ec.EllipticCurvePrivateKey, common_name: str) -> str:
    """A PKCS #10 certificate signing request, PEM, signed with SHA-256."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MOST_COMMON_NAME])])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode("ascii")


def is_of_key(certificate_pem: str, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether a certificate (PEM, the first of a chain) was issued for this key.

    Raises:
        ValueError: it is no certificate.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return _spki(certificate.public_key()) == _spki(key.public_key())


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
