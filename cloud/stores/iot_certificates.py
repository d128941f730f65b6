"""Certificates in AWS IoT: which a thing has, how they stand, and their end.

A certificate that is retired loses its thing last: a call that was cut short finds it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from cloud.provisioning.ports import CertificateStatus
from cloud.stores.aws_errors import wrapped

_IOT: Final = "AWS IoT"
GONE: Final = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class IotCertificate:
    """What AWS IoT tells of a certificate."""

    certificate_id: str
    arn: str
    status: CertificateStatus | None
    """None for one of AWS' other states, e.g. a transfer between accounts."""
    pem: bytes
    created_at: datetime
    not_before: datetime
    not_after: datetime


class IotCertificates:
    """The certificates of one account and region; every method may raise ``StoreError``."""

    def __init__(self, iot: Any) -> None:
        self._iot = iot

    def of_thing(self, thing: str) -> Sequence[IotCertificate]:
        """Those that are attached to it; none when there is no such thing."""
        found = (self.describe(id_of(arn)) for arn in self._principals(thing))
        return [one for one in found if one is not None]

    def holds(self, thing: str, certificate_id: str) -> bool:
        """Whether it is attached to the thing and ACTIVE."""
        if certificate_id not in {id_of(arn) for arn in self._principals(thing)}:
            return False
        found = self.describe(certificate_id)
        return found is not None and found.status is CertificateStatus.ACTIVE

    def describe(self, certificate_id: str) -> IotCertificate | None:
        """One of them, or None when there is none of that id."""
        try:
            with wrapped(_IOT, but=GONE):
                answer = self._iot.describe_certificate(certificateId=certificate_id)
        except ClientError:
            return None
        told = answer["certificateDescription"]
        return IotCertificate(
            certificate_id=told["certificateId"],
            arn=told["certificateArn"],
            status=_status(told["status"]),
            pem=told["certificatePem"].encode(),
            created_at=told["creationDate"],
            not_before=told["validity"]["notBefore"],
            not_after=told["validity"]["notAfter"],
        )

    def set_status(self, certificate_id: str, status: CertificateStatus) -> None:
        """Change it; nothing happens where there is no such certificate."""
        try:
            with wrapped(_IOT, but=GONE):
                self._iot.update_certificate(certificateId=certificate_id, newStatus=status.value)
        except ClientError:
            return

    def retire(self, thing: str, certificate_ids: Iterable[str]) -> None:
        """Make them INACTIVE (one that is REVOKED stays so) and take policies and thing away."""
        for certificate_id in certificate_ids:
            found = self.describe(certificate_id)
            if found is None:
                continue
            if found.status is not CertificateStatus.REVOKED:
                self.set_status(certificate_id, CertificateStatus.INACTIVE)
            self.detach(thing, found.arn)

    def detach(self, thing: str | None, arn: str) -> None:
        """Take away its policies, and then its thing."""
        with wrapped(_IOT):
            for policy in self._policies(arn):
                self._iot.detach_policy(policyName=policy, target=arn)
            if thing is not None and arn in self._principals(thing):
                self._iot.detach_thing_principal(thingName=thing, principal=arn)

    def _policies(self, arn: str) -> list[str]:
        answer = self._iot.list_attached_policies(target=arn, pageSize=250)
        return [one["policyName"] for one in answer["policies"]]

    def _principals(self, thing: str) -> list[str]:
        try:
            with wrapped(_IOT, but=GONE):
                return [arn for arn in self._pages(thing) if ":cert/" in arn]
        except ClientError:
            return []

    def _pages(self, thing: str) -> Iterator[str]:
        for page in self._iot.get_paginator("list_thing_principals").paginate(thingName=thing):
            yield from page["principals"]


def id_of(arn: str) -> str:
    """The certificate_id in a certificate's ARN."""
    return arn.rpartition("/")[2]


def _status(told: str) -> CertificateStatus | None:
    return CertificateStatus(told) if told in set(CertificateStatus) else None
