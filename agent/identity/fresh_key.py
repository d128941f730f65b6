"""A new private key and the request for its certificate, made in a process of its own.

``cryptography`` takes some 15 MB that the running agent would never get back, for what it
needs once in months. The key comes back through a pipe, and stands in no file, argument or
environment on its way; its certificate is later compared with it by OpenSSL.
"""

from __future__ import annotations

import json
import sys
from typing import Final, NamedTuple

from agent.child import run_python
from agent.errors import IdentityError

_TIMEOUT_S: Final = 120.0
"""A Pi Zero that is busy takes some seconds to load the library."""

_MISSING: Final = 3


class FreshKey(NamedTuple):
    """An EC P-256 key, PEM, and a PKCS #10 request signed with it, PEM."""

    key_pem: bytes
    request_pem: str


def make_fresh_key(vehicle_id: str) -> FreshKey:
    """Make one for a vehicle.

    Raises:
        IdentityError: it cannot be made, e.g. the extra ``provision`` is not installed.
    """
    try:
        ended = run_python("-m", __name__, vehicle_id, timeout_s=_TIMEOUT_S)
        if ended.returncode == _MISSING:
            raise IdentityError(
                "cryptography, which makes keys, is not installed",
                hint="Install it: pip install 'milepost[provision]'.",
            )
        made = json.loads(ended.stdout)
        return FreshKey(made["key"].encode(), made["request"])
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        raise IdentityError(
            f"a new key could not be made: {error}", hint="Is there memory and room to start it?"
        ) from None


def _main(vehicle_id: str) -> int:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  likewise

        from agent.identity.keys import signing_request  # noqa: PLC0415  likewise
    except ModuleNotFoundError:
        return _MISSING
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    request = signing_request(key, vehicle_id)
    sys.stdout.write(json.dumps({"key": pem.decode(), "request": request}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
