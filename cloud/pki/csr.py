"""Certificate signing requests from strangers (PKCS #10, RFC 2986).

Only the public key counts, once its owner has proven to hold the private half by the
request's own signature. Whatever name or extension a request asks for is not taken over.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cloud.errors import CsrError
from cloud.pki.certificates import PublicKey

MAX_CSR_BYTES: Final = 8 * 1024
"""A request with an RSA key of 4,096 bits has under 2 KB."""
MIN_RSA_BITS: Final = 2_048
MAX_RSA_BITS: Final = 4_096
MIN_RSA_EXPONENT: Final = 65_537
CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""Those of AWS IoT ("Create client certificates": RSA of at least 2,048 bits, or NIST P-256,
P-384, P-521)."""


def proven_key(pem: str) -> PublicKey:
    """The public key that a request was made for.

    Raises:
        CsrError: it is too long, no request, of a kind of key that is not taken, or not
            signed by that key.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise CsrError(f"has {len(pem)} characters; at most {MAX_CSR_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        proven = _is_taken(key) and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CsrError("is no PEM of a certificate signing request") from error
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)) or not _is_taken(key):
        raise CsrError("has a key that is neither EC P-256, P-384, P-521 nor RSA of 2,048 to 4,096")
    if not proven:
        raise CsrError("is not signed by its own key")
    return key


def _is_taken(key: object) -> bool:
    match key:
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, CURVES)
        case rsa.RSAPublicKey():
            return (
                MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
                and MIN_RSA_EXPONENT <= key.public_numbers().e < 2**32
            )
    return False
