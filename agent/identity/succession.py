"""One rotation, step by step; each step is durable before the next relies on it.

1. A new key is kept as pending.
2. Its certificate is asked for over the present connection, and kept with its token.
3. It is registered as this vehicle's by the provisioning template for rotation; that is kept.
   From here on the cloud knows two active certificates.
4. The vehicle connects with it, and proves it by a request that is answered.
5. It is committed: one rename makes it the identity.
6. The status goes out over it, by which the cloud retires the old one.

Cut off anywhere, the next start goes on at the step that it finds. Until 5 the present
certificate is the vehicle's and stays active, since the status waits for 6.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from agent.errors import AgentError, IdentityError
from agent.identity.dialogue import Answer, Dialogue, RejectedError, parsed
from agent.identity.key_process import KeyProcess
from agent.identity.records import Identity, Pending
from agent.identity.store import IdentityStore
from agent.ports import Clock
from agent.publisher.changeover import Order, Verdict
from agent.publisher.exchange import ControlChannel
from agent.transport import Credentials, certificate_facts
from contract.fields import format_timestamp
from contract.provisioning import (
    CREATE_FROM_CSR,
    Parameter,
    ProvisioningTopics,
    accepted,
    rejected,
)
from contract.shadow import ShadowAction, ShadowTopics

LOG = logging.getLogger("agent.identity")

PROOF_S: Final = 60.0
"""For the subscription and the answer, on a link whose answers take 10 s."""

_LOOK_S: Final = 1.0


class UnprovenError(IdentityError):
    """The new certificate could not be used; ``final`` if trying it again would not help."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason, hint="The present certificate is in use.")
        self.final = final


class ChangesOver(Protocol):
    """The part of the publisher that changes certificates; see ``agent.publisher.changeover``."""

    def change_over(self, order: Order) -> None:
        """Try the order's certificate."""
        ...

    def keep(self, order: Order, kept: Credentials) -> None:
        """It is the vehicle's."""
        ...

    def give_up(self, order: Order, reason: str) -> None:
        """It is no good."""
        ...


class _Probation:
    """The new certificate is connected; what the channel tells from now on is about it."""


class Succession:
    """Carries a rotation out; ``present`` are the credentials in use. One thread uses it."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: IdentityStore,
        keys: KeyProcess,
        publisher: ChangesOver,
        dialogue: Dialogue,
        vehicle_id: str,
        template: str,
        present: Credentials,
        new_token: Callable[[], str],
        on_step: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._store = store
        self._keys = keys
        self._publisher = publisher
        self._dialogue = dialogue
        self._vehicle_id = vehicle_id
        self.present = present
        self._new_token = new_token
        self._on_step = on_step
        self._template = template
        self._register = ProvisioningTopics(template).register

    def carry_out(self) -> Identity:
        """From wherever the last try was cut off to the new identity.

        Raises:
            AgentError: it failed; the present identity is in use.
            StoppedError: the agent stops.
        """
        pending = self._store.pending()
        if pending is not None and pending.template != self._template:
            raise IdentityError(
                "a provisioning is unfinished on this board",
                hint="Finish it: milepost-agent provision; or remove identity/pending.",
            )
        if pending is None or pending.certificate is None:
            pending = self._get_certificate()
            again = False
        else:
            again = True
        if pending.vehicle_id is None:
            pending = self._get_registered(pending, again=again)
        return self._change_over(pending)

    def _get_certificate(self) -> Pending:
        self._on_step("making a key")
        fresh = self._keys.make(self._vehicle_id)
        self._store.begin(self._template, key_pem=fresh.key_pem, key_label=fresh.key_label)
        self._on_step("asking for a certificate")
        answer = self._dialogue.ask(
            CREATE_FROM_CSR, {"certificateSigningRequest": fresh.request_pem}
        )
        names = ("certificatePem", "certificateId", "certificateOwnershipToken")
        pem, certificate_id, token = (answer.get(name) for name in names)
        if not (
            isinstance(pem, str) and isinstance(certificate_id, str) and isinstance(token, str)
        ):
            raise IdentityError("the cloud's answer holds no certificate", hint="See its log.")
        pending = self._store.keep_certificate(
            pem.encode(),
            certificate_id=certificate_id,
            token=token,
            received_at=format_timestamp(self._clock.utc()),
        )
        if pending.key_file is not None:  # with one in a token the connection shows it
            certificate_facts(self._credentials(pending))  # that it is of this key
        return pending

    def _get_registered(self, pending: Pending, *, again: bool) -> Pending:
        assert pending.certificate is not None  # noqa: S101  the caller looked
        self._on_step("registering the certificate")
        try:
            answer = self._dialogue.ask(
                self._register,
                {
                    "certificateOwnershipToken": pending.certificate.token,
                    "parameters": {Parameter.THING_NAME.value: self._vehicle_id},
                },
            )
        except RejectedError as error:
            if not (again or error.repeated):
                raise
            # an earlier request may have been carried out, and its answer lost: trying tells
            LOG.info("%s; asked before, so the certificate is tried", error.message)
            return self._store.keep_registration(self._vehicle_id)
        name = answer.get("thingName")
        if name != self._vehicle_id:
            raise IdentityError(
                f"the cloud registered the certificate as {name!r}, not as {self._vehicle_id!r}",
                hint=f"Correct the template {self._template} there.",
            )
        return self._store.keep_registration(self._vehicle_id)

    # --- the changeover ----------------------------------------------------------------

    def _change_over(self, pending: Pending) -> Identity:
        assert isinstance(self._dialogue.channel, ControlChannel)  # noqa: S101  of the publisher
        self._on_step("connecting with the new certificate")
        order = Order(
            other=self._credentials(pending),
            present=self.present,
            channel=self._dialogue.channel,
            on_connected=lambda: self._dialogue.post(_Probation()),
            on_end=self._dialogue.post,
        )
        self._publisher.change_over(order)
        self._until_proven(order)
        self._on_step("committing")
        try:
            identity = self._store.commit(obtained_at=format_timestamp(self._clock.utc()))
        except AgentError as error:
            committed = self._committed(pending)
            if committed is None:
                self._publisher.give_up(order, error.message)
                self._until_back()
                raise
            identity = committed  # and only the tidying up failed
        self.present = self._credentials(identity)
        self._publisher.keep(order, self.present)
        return identity

    def _until_proven(self, order: Order) -> None:
        """Return once a request was answered over the new certificate.

        Raises:
            UnprovenError: that did not come about; the present one is connected again.
        """
        topics = ShadowTopics(self._vehicle_id)
        request = topics.request(ShadowAction.GET)
        token, until_s, has_asked = "", None, False
        while True:
            was_open = self._dialogue.is_open
            item = self._dialogue.wait(_LOOK_S)
            if isinstance(item, Verdict) and not item.kept:  # one that was is the last order's
                raise UnprovenError(
                    f"the new certificate does not connect: {item.reason}", final=item.refused
                )
            if isinstance(item, _Probation):
                token, has_asked = self._new_token(), False
                until_s = self._clock.monotonic_s() + PROOF_S
            elif was_open and not self._dialogue.is_open:
                until_s = None
            if isinstance(item, Answer) and has_asked:
                answers = {accepted(request), rejected(request)}
                if item.topic in answers and parsed(item).get("clientToken") == token:
                    return
            if until_s is None:
                continue
            if self._dialogue.is_open and not has_asked:
                payload = f'{{"clientToken": "{token}"}}'.encode()
                has_asked = self._dialogue.channel.send(request, payload)
            if self._clock.monotonic_s() >= until_s:
                until_s = None
                reason = self._dialogue.channel.refusal or "nothing that is asked is answered"
                self._publisher.give_up(order, reason)

    def _committed(self, pending: Pending) -> Identity | None:
        with contextlib.suppress(AgentError):
            now = self._store.current()
            kept = pending.certificate
            if now and kept and now.certificate_id == kept.certificate_id:
                return now
        return None

    def _until_back(self) -> None:
        while True:
            item = self._dialogue.wait(_LOOK_S)
            if isinstance(item, Verdict) and not item.kept:
                return

    def _credentials(self, of: Pending | Identity) -> Credentials:
        token = self.present.pkcs11
        if token is not None and of.key_label is not None:
            token = replace(token, key_label=of.key_label)
        return replace(
            self.present,
            certificate_file=of.certificate_file,
            key_file=of.key_file,
            pkcs11=token,
        )


def answer_filters(vehicle_id: str, template: str) -> list[str]:
    """Where the answers to all that is asked here come."""
    requests = (
        CREATE_FROM_CSR,
        ProvisioningTopics(template).register,
        ShadowTopics(vehicle_id).request(ShadowAction.GET),
    )
    return [answer for topic in requests for answer in (accepted(topic), rejected(topic))]
