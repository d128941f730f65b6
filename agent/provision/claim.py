"""The claim certificate: where it is, and whether it can be used at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from agent.config import AgentSettings
from agent.config.provision import CLAIM_FOLDER
from agent.errors import IdentityError
from agent.provision.failures import Cause, ProvisionError
from agent.transport import Credentials, check_credentials
from agent.transport.tls import make_context

_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5): where a service finds what LoadCredential= gave it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim certificate that can be used, once it is time."""

    credentials: Credentials
    name: str
    not_before: datetime
    not_after: datetime


def claim_files(
    settings: AgentSettings, environment: Mapping[str, str] = os.environ
) -> tuple[Path, Path]:
    """Certificate and key: of the config, else systemd's credentials, else ``CLAIM_FOLDER``."""
    certificate, key = CLAIM_FOLDER / "certificate.pem", CLAIM_FOLDER / "key.pem"
    given = environment.get(_CREDENTIALS)
    if given and (Path(given) / "claim-certificate").exists():
        certificate, key = Path(given) / "claim-certificate", Path(given) / "claim-key"
    return (
        settings.provision.claim_certificate_file or certificate,
        settings.provision.claim_key_file or key,
    )


def load_claim(settings: AgentSettings, environment: Mapping[str, str] = os.environ) -> Claim:
    """Read the claim's files and look whether they belong together.

    Raises:
        ProvisionError: they cannot be used; says which and why.
    """
    certificate_file, key_file = claim_files(settings, environment)
    credentials = Credentials(
        ca_file=settings.broker.ca_file,
        certificate_file=certificate_file,
        key_file=key_file,
        server_name=settings.broker.server_name or settings.broker.host,
    )
    try:
        check_credentials(credentials)
        make_context(credentials)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except IdentityError as error:
        # the transport's errors speak of the vehicle's own files
        message = error.message.replace("broker.certificate_file", "the claim certificate")
        message = message.replace("broker.key_file", "the claim's key")
        raise ProvisionError(Cause.CLAIM_UNUSABLE, message, hint=_HINT) from error
    except (OSError, ValueError) as error:
        raise ProvisionError(
            Cause.CLAIM_UNUSABLE, f"{certificate_file} is no certificate: {error}", hint=_HINT
        ) from error
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Claim(
        credentials,
        str(names[0].value) if names else "",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def check_not_expired(claim: Claim, now: datetime) -> None:
    """See that it has not expired by the board's clock.

    Raises:
        ProvisionError: it has.
    """
    if now > claim.not_after:
        raise ProvisionError(
            Cause.CLAIM_UNUSABLE,
            f"the claim certificate expired on {claim.not_after:%Y-%m-%d};"
            f" this board's clock says {now:%Y-%m-%d %H:%M} UTC",
            hint="Put a new one on the board: milepost-cloud fleet claim create.",
        )


_HINT: Final = (
    "`milepost-cloud fleet claim create` makes certificate and key; put them where the config's"
    f" [provision] names them, or into {CLAIM_FOLDER} as certificate.pem and key.pem."
)
