"""The authority that vehicles know AWS IoT's endpoints by."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import botocore
from cryptography import x509
from cryptography.x509.oid import NameOID

from cloud.errors import FleetError

ROOT_CA: Final = "Amazon Root CA 1"
_END: Final = "-----END CERTIFICATE-----"


def root_ca() -> bytes:
    """The authority of AWS IoT's endpoints, out of botocore's own list.

    Raises:
        FleetError: this botocore does not have it.
    """
    bundle = Path(botocore.__file__).with_name("cacert.pem").read_text(encoding="utf-8")
    _, found, rest = bundle.partition(f"# Subject: CN={ROOT_CA} ")
    begin, end = rest.find("-----BEGIN"), rest.find(_END)
    if found and 0 <= begin < end:
        pem = f"{rest[begin:end]}{_END}\n".encode()
        name = x509.load_pem_x509_certificate(pem).subject
        if name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == ROOT_CA:
            return pem
    raise FleetError(
        f"{ROOT_CA} is not among botocore's authorities",
        hint="Fetch it from https://www.amazontrust.com/repository/AmazonRootCA1.pem.",
    )
