"""The vehicle's private key in a PKCS#11 token: made there, used there, never read out.

python-pkcs11 makes it and signs the request; the connection then uses it through awscrt.
Keys are named after ``key_label`` and the generation that they are for, so one that a power
cut left without a journal is found again, and replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.util.ec import (
    encode_ec_public_key,
    encode_ecdsa_signature,
    encode_named_curve_parameters,
)

from agent.config import Pkcs11Settings
from agent.errors import IdentityError
from agent.identity.keys import NewKey
from agent.identity.records import Pending
from agent.identity.store import IdentityStore
from agent.transport.credentials import Pkcs11Key


class TokenKeys:
    """Implements ``keys.KeyMaker``."""

    def __init__(self, token: Pkcs11Settings) -> None:
        self._settings = token
        self._token = Pkcs11Key(
            token.module_file, token.token_label, token.key_label, token.pin_path
        )

    def check(self) -> str:
        """See ``KeyMaker``."""
        with self._session():
            return f"in the token {self._settings.token_label!r}"

    def make(self, store: IdentityStore) -> NewKey:
        """See ``KeyMaker``."""
        number = store.next_generation()
        label = f"{self._settings.key_label}-{number}"
        with self._session(writing=True) as session:
            for left in session.get_objects({pkcs11.Attribute.LABEL: label}):
                left.destroy()
            curve = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            curve.generate_keypair(
                store=True,
                label=label,
                id=number.to_bytes(4, "big"),
                mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            )
        return NewKey(key_label=label)

    def private_key(self, pending: Pending) -> ec.EllipticCurvePrivateKey:
        """See ``KeyMaker``."""
        if pending.key_label is None:
            raise IdentityError("the pending key is in a file", hint="Discard it and begin again.")
        return _TokenKey(self, pending.key_label)

    def made(self, pending: Pending) -> bool:
        """See ``KeyMaker``."""
        return pending.key_label is not None

    def destroy(self, label: str) -> None:
        """Remove a key that no generation uses any more; nothing happens if it is not there."""
        with self._session(writing=True) as session:
            for left in session.get_objects({pkcs11.Attribute.LABEL: label}):
                left.destroy()

    def public_key(self, label: str) -> ec.EllipticCurvePublicKey:
        """Of the key pair with this label."""
        with self._session() as session:
            found: Any = session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            key = load_der_public_key(encode_ec_public_key(found))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            self._refuse(f"{label!r} is no EC key")
        return key

    def sign_digest(self, label: str, digest: bytes) -> bytes:
        """ECDSA, DER. The token need not know the hash: every one knows plain ECDSA."""
        with self._session() as session:
            found: Any = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=label)
            return encode_ecdsa_signature(found.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

    @contextlib.contextmanager
    def _session(self, *, writing: bool = False) -> Iterator[pkcs11.Session]:
        pin = self._token.pin()
        try:
            library = pkcs11.lib(str(self._settings.module_file))
            token = library.get_token(token_label=self._settings.token_label)
            with token.open(rw=writing, user_pin=pin) as session:
                yield session
        except (pkcs11.PKCS11Error, OSError, RuntimeError) as error:
            self._refuse(str(error) or type(error).__name__)

    def _refuse(self, reason: str) -> NoReturn:
        raise IdentityError(
            f"broker.pkcs11: the token {self._settings.token_label!r} cannot be used: {reason}",
            hint="Check module_file, token_label and the PIN:"
            f" pkcs11-tool --module {self._settings.module_file} --list-objects --login",
        )


class _TokenKey(ec.EllipticCurvePrivateKey):
    """A key of the token as ``cryptography`` knows keys; it signs and does nothing else."""

    def __init__(self, keys: TokenKeys, label: str) -> None:
        self._keys = keys
        self._label = label

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """Bits."""
        return self.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public half."""
        return self._keys.public_key(self._label)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign in the token, over SHA-256 as the request asks."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise TypeError("a key in the token signs over SHA-256")
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        return self._keys.sign_digest(self._label, digest.finalize())

    def exchange(self, *_: Any) -> NoReturn:
        """Not used, and not allowed to the key."""
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        """It cannot be read out."""
        raise NotImplementedError

    def private_bytes(self, *_: Any) -> NoReturn:
        """It cannot be read out."""
        raise NotImplementedError

    def __copy__(self) -> _TokenKey:
        return self

    def __deepcopy__(self, _memo: Any) -> _TokenKey:
        return self
