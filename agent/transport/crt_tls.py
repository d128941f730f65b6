"""awscrt's TLS context: a key in a file, or in a PKCS#11 token."""

from __future__ import annotations

from awscrt import io
from awscrt.exceptions import AwsCrtError

from agent.errors import IdentityError
from agent.transport.credentials import Credentials, Pkcs11Key


class CrtTls:
    """Keeps the PKCS#11 library, which is loaded once in a process, for all contexts."""

    def __init__(self) -> None:
        self._library: io.Pkcs11Lib | None = None

    def context(self, given: Credentials) -> io.ClientTlsContext:
        """Mutual TLS 1.2 or later, made from what the files hold now.

        Raises:
            IdentityError: a file, or the token, cannot be used.
        """
        if given.pkcs11 is not None:
            options = self._from_token(given.pkcs11, given.certificate_file.read_bytes())
            what = "broker.certificate_file and broker.pkcs11"
            hint = (
                "Check token_label, key_label and the PIN (pkcs11-tool --list-objects --login),"
                " and that the certificate is of this key."
            )
        else:
            options = io.TlsContextOptions.create_client_with_mtls(
                given.certificate_file.read_bytes(), _bytes_of(given)
            )
            what = "broker.certificate_file and broker.key_file"
            hint = "Both must be PEM, the key not encrypted and the one of this certificate."
        options.min_tls_ver = io.TlsVersion.TLSv1_2
        options.override_default_trust_store(given.ca_file.read_bytes())
        try:
            return io.ClientTlsContext(options)
        except (AwsCrtError, RuntimeError) as error:
            raise IdentityError(f"{what} cannot be used together: {error}", hint=hint) from error

    def _from_token(self, key: Pkcs11Key, certificate: bytes) -> io.TlsContextOptions:
        if self._library is None:
            try:
                self._library = io.Pkcs11Lib(file=str(key.module_file))
            except (AwsCrtError, RuntimeError) as error:
                raise IdentityError(
                    f"broker.pkcs11.module_file: {key.module_file} cannot be loaded: {error}",
                    hint="Name the PKCS#11 library of the token, for this processor.",
                ) from error
        return io.TlsContextOptions.create_client_with_mtls_pkcs11(
            pkcs11_lib=self._library,
            user_pin=key.pin(),
            token_label=key.token_label,
            private_key_label=key.key_label,
            cert_file_contents=certificate,
        )


def _bytes_of(credentials: Credentials) -> bytes:
    if credentials.key_file is None:
        raise IdentityError(
            "broker.key_file: no key is named", hint="Give key_file or a [broker.pkcs11] table."
        )
    return credentials.key_file.read_bytes()
