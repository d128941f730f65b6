"""The steps of provisioning, each kept before the next, so that a power cut costs one at most.

====================  ======================================  ===============================
step                  asks the cloud                          kept in ``identity/``
====================  ======================================  ===============================
1 key                                                         ``pending/key.pem``
2 certificate         CreateCertificateFromCsr                certificate, its id and token
3 registration        RegisterThing                           the vehicle's name
4 commit                                                      ``generations/<n>``, ``current``
====================  ======================================  ===============================

Whatever stands there when it runs again is gone on from. The answer to step 2 that a power
cut lost leaves a certificate that was never active, and that the cloud forgets after an
hour. The answer to step 3 that was lost is asked for again, with the same token; when that
has expired, with a new certificate for the same key, and the cloud then makes the first one
inactive (``milepost_by_claim``'s hook allows that until the first has connected).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agent.errors import IdentityError
from agent.host import system_utc
from agent.identity.keys import KeyMaker, signing_request
from agent.identity.records import Identity, Pending
from agent.identity.store import IdentityStore
from agent.provision.failures import Cause, ProvisionError
from agent.provision.service import ProvisioningService, check_issued
from contract.provisioning import TOKEN_LIFE_S, Parameter

_TOKEN_MARGIN: Final = timedelta(seconds=60)
_BAD_TOKEN: Final = "OwnershipToken"  # noqa: S105  a part of an error code
"""AWS IoT Core says ``InvalidCertificateOwnershipToken``."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the vehicle asks to be registered with."""

    template: str
    parameters: Mapping[str, str]


class Provisioning:
    """One try, from where the last one stopped; the caller holds the store's lock.

    ``connect`` opens the service when it is first needed; ``tell`` is given a line for each
    step.
    """

    def __init__(
        self,
        *,
        store: IdentityStore,
        keys: KeyMaker,
        request: Request,
        connect: Callable[[], ProvisioningService],
        tell: Callable[[str], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._request = request
        self._connect = connect
        self._tell = tell

    def run(self) -> Identity:
        """Go through the steps that are left.

        Raises:
            ProvisionError: the cloud did not do its part, or did it wrongly.
            IdentityError: the key cannot be made or used.
            StateError: nothing can be kept.
        """
        pending = self._with_key()
        if pending.vehicle_id is None:
            service = self._connect()
            try:
                pending = self._registered(service, pending)
            finally:
                service.close()
        self._tell(f"registered as {pending.vehicle_id}")
        return self._store.commit(obtained_at=_stamp(system_utc()))

    def _with_key(self) -> Pending:
        pending = self._store.pending()
        if pending is not None:
            if pending.template == self._request.template and self._keys.made(pending):
                self._tell("going on with the key that an earlier try made")
                return pending
            self._tell("an earlier try was for another template or kind of key: beginning again")
        self._tell("making a private key")
        new = self._keys.make(self._store)
        return self._store.begin(
            self._request.template, key_pem=new.key_pem, key_label=new.key_label
        )

    def _registered(self, service: ProvisioningService, pending: Pending) -> Pending:
        if pending.certificate is not None and _is_fresh(pending.certificate.received_at):
            self._tell("going on with the certificate that an earlier try got")
            try:
                return self._register(service, pending)
            except ProvisionError as error:
                if _BAD_TOKEN not in error.error_code:
                    raise
                self._tell("its token does not count any more")
        return self._register(service, self._with_certificate(service, pending))

    def _with_certificate(self, service: ProvisioningService, pending: Pending) -> Pending:
        self._tell("asking for a certificate for this key")
        key = self._keys.private_key(pending)
        name = self._request.parameters.get(Parameter.SERIAL_NUMBER, "vehicle")
        try:
            request = signing_request(key, name)
        except ValueError as error:  # a serial number that no name can be
            raise IdentityError(f"no request can be made for {name!r}: {error}") from error
        answer = service.create_from_csr(request)
        check_issued(answer, key)
        return self._store.keep_certificate(
            answer.certificate_pem.encode(),
            certificate_id=answer.certificate_id,
            token=answer.token,
            received_at=_stamp(system_utc()),
        )

    def _register(self, service: ProvisioningService, pending: Pending) -> Pending:
        if pending.certificate is None:
            raise ProvisionError(Cause.BAD_ANSWER, "the certificate was not kept")
        self._tell(f"registering with the template {self._request.template}")
        name = service.register(
            self._request.template, pending.certificate.token, self._request.parameters
        )
        return self._store.keep_registration(name)


def _is_fresh(received_at: str) -> bool:
    """Whether the token may still count; the service has the last word."""
    try:
        age = system_utc() - datetime.fromisoformat(received_at)
    except (ValueError, TypeError):
        return False
    return age < timedelta(seconds=TOKEN_LIFE_S) - _TOKEN_MARGIN


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
