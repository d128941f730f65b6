"""Keys in a process of their own: made, read about, destroyed.

``cryptography`` takes some 15 MB that the running agent would never get back, for what it
needs once in months; and a PKCS#11 module that the agent's connection has loaded cannot be
loaded there a second time. What comes back goes through a pipe and stands in no file,
argument or environment on its way.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent.child import run_python
from agent.config import Pkcs11Settings
from agent.errors import AgentError, IdentityError
from agent.identity.records import Pending
from agent.identity.store import IdentityStore

_TIMEOUT_S: Final = 120.0
"""A Pi Zero that is busy takes some seconds to load the libraries, and a TPM to make a key."""

Json = dict[str, Any]


class FreshKey(NamedTuple):
    """An EC P-256 key, as PEM or by its label in the token, and a PKCS #10 request, PEM."""

    key_pem: bytes | None
    key_label: str | None
    request_pem: str


class KeyProcess:
    """Every method raises ``IdentityError`` where it cannot be done; ``token`` is the config's."""

    def __init__(self, state_dir: Path, token: Pkcs11Settings | None) -> None:
        self._state_dir = state_dir
        self._token = token

    def make(self, vehicle_id: str) -> FreshKey:
        """A new key for the next generation, and a request signed with it."""
        made = self._ask("make", vehicle_id=vehicle_id, state_dir=str(self._state_dir))
        pem = made["key_pem"]
        return FreshKey(pem.encode() if pem else None, made["key_label"], made["request_pem"])

    def days(self, certificate_file: Path) -> tuple[datetime, datetime]:
        """From when and until when a certificate is valid, whoever has its key."""
        told = self._ask("days", certificate_file=str(certificate_file))
        return datetime.fromisoformat(told["begin"]), datetime.fromisoformat(told["end"])

    def destroy(self, key_label: str) -> None:
        """Remove a key from the token; nothing happens if it is not there."""
        self._ask("destroy", key_label=key_label)

    def _ask(self, work: str, **given: str) -> Json:
        token = None if self._token is None else self._token.model_dump(mode="json")
        asked = json.dumps({"work": work, "token": token, **given}).encode()
        try:
            ended = run_python("-m", __name__, stdin=asked, timeout_s=_TIMEOUT_S)
            answer: Json = json.loads(ended.stdout)
        except (OSError, TimeoutError, ValueError) as error:
            raise IdentityError(
                f"the process that makes keys failed: {error}",
                hint="Is there memory to start it? The log may say more.",
            ) from None
        if "error" in answer:
            raise IdentityError(answer["error"], hint=answer["hint"])
        return answer


# --- the process --------------------------------------------------------------------


def _make(asked: Json, token: Pkcs11Settings | None) -> Json:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  an extra
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  likewise
        load_pem_private_key,
    )

    from agent.identity.keys import key_maker, signing_request  # noqa: PLC0415  likewise

    maker = key_maker(token)
    new = maker.make(IdentityStore(Path(asked["state_dir"])))
    if new.key_pem is not None:
        key = load_pem_private_key(new.key_pem, None)
    else:
        key = maker.private_key(Pending("", None, new.key_label, Path()))
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  both kinds are
    return {
        "key_pem": new.key_pem.decode() if new.key_pem else None,
        "key_label": new.key_label,
        "request_pem": signing_request(key, asked["vehicle_id"]),
    }


def _days(asked: Json, _token: Pkcs11Settings | None) -> Json:
    from cryptography import x509  # noqa: PLC0415  an extra

    certificate = x509.load_pem_x509_certificate(Path(asked["certificate_file"]).read_bytes())
    return {
        "begin": certificate.not_valid_before_utc.isoformat(),
        "end": certificate.not_valid_after_utc.isoformat(),
    }


def _destroy(asked: Json, token: Pkcs11Settings | None) -> Json:
    from agent.identity.token import TokenKeys  # noqa: PLC0415  an extra

    if token is not None:
        TokenKeys(token).destroy(asked["key_label"])
    return {}


_WORKS: Final = {"make": _make, "days": _days, "destroy": _destroy}


def _main() -> None:
    asked = json.load(sys.stdin)
    given = asked["token"]
    token = None if given is None else Pkcs11Settings.model_validate(given, strict=False)
    extra = "provision" if token is None else "provision-pkcs11"
    try:
        answer = _WORKS[asked["work"]](asked, token)
    except ModuleNotFoundError as error:
        answer = {
            "error": f"{error.name}, which makes keys, is not installed",
            "hint": f"Install it: pip install 'milepost[{extra}]'.",
        }
    except AgentError as error:
        answer = {"error": error.message, "hint": error.hint}
    except (OSError, ValueError) as error:
        answer = {"error": str(error), "hint": ""}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
