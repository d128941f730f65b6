"""Rotation: the vehicle gets its next key and certificate before the present one ends.

Due by its expiry or its age (:mod:`agent.identity.due`), or when somebody asks: a job, or
``milepost-agent rotate`` over the control socket. How it is done is in
:mod:`agent.identity.succession`; here is when, what becomes of a failure, and what is told
of it: a fault event ``source:identity`` that stands until a rotation goes well, the account,
the log, and a file for ``doctor``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.config import BrokerSettings, IdentitySettings, Pkcs11Settings
from agent.errors import AgentError, IdentityError, StateError
from agent.host import new_run_id
from agent.identity.dialogue import Dialogue, StoppedError, UnansweredError
from agent.identity.in_use import InUse
from agent.identity.key_process import KeyProcess
from agent.identity.last import Ends, LastRotation
from agent.identity.records import Identity
from agent.identity.store import IdentityStore
from agent.identity.succession import ChangesOver, Succession, UnprovenError, answer_filters
from agent.inputs import SourceChanged
from agent.ports import Clock, Exchange
from agent.transport import Credentials

LOG = logging.getLogger("agent.identity")

_FIRST_LOOK_S: Final = 60.0
_LOOK_S: Final = 3_600.0
_AGAIN_S: Final = 600.0
"""To the next try of a certificate that was not refused and yet did not come to be used; the
cloud gives it up two hours after it was made."""

_MOST_TRIES: Final = 3
_LEAST_PAUSE_S: Final = 3_600.0
_MOST_PAUSE_S: Final = 86_400.0
"""Between rotations that begin by themselves and fail."""

_CUT_OFF: Final = "an earlier rotation was cut off"


@dataclass(frozen=True, slots=True)
class _Request:
    reason: str


class Rotation:
    """``start()`` once; ``stop()`` at any time, idempotent. Made before the delivery starts.

    ``broker`` is with the identity of this moment, ``token`` as the config has it: the labels
    of the keys that are made there are built on its own.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        state_dir: Path,
        vehicle_id: str,
        broker: BrokerSettings,
        token: Pkcs11Settings | None,
        settings: IdentitySettings,
        exchange: Exchange,
        publisher: ChangesOver,
        tell: Callable[[SourceChanged], None],
    ) -> None:
        self._clock = clock
        self._store = store = IdentityStore(state_dir)
        self._ends = Ends(clock=clock, store=store, tell=tell)
        self._template = settings.template_name
        credentials = Credentials.of(broker)
        self._obstacle = _obstacle(credentials, store)
        keys = KeyProcess(state_dir, token)
        self._in_use = InUse(
            clock=clock, store=store, keys=keys, settings=settings, like=credentials
        )
        self._dialogue = Dialogue(
            clock=clock,
            exchange=exchange,
            filters=answer_filters(vehicle_id, self._template),
            hopeless=self._why_hopeless,
        )
        self._succession = Succession(
            clock=clock,
            store=store,
            keys=keys,
            publisher=publisher,
            dialogue=self._dialogue,
            vehicle_id=vehicle_id,
            template=self._template,
            present=credentials,
            new_token=new_run_id,
            on_step=self._note_step,
        )
        self._lock = threading.Lock()
        self._reason = ""
        self._step = ""
        self._tries = 0
        self._again_s: float | None = None
        self._pause_s = _LEAST_PAUSE_S
        self._not_before_s = 0.0
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)

    def start(self) -> None:
        """Begin to look; what was cut off goes on."""
        if self._obstacle is None:
            self._thread.start()

    def stop(self) -> None:
        """End; what is under way goes on at the next start."""
        self._dialogue.stop()
        if self._thread.is_alive():
            self._thread.join(5)

    # --- from any thread -----------------------------------------------------------------

    def request(self, reason: str) -> None:
        """Rotate now; nothing new happens if a rotation is under way.

        Raises:
            IdentityError: this vehicle's identity cannot be rotated; says why.
        """
        if self._obstacle is not None:
            raise self._obstacle
        with self._lock:
            if self._reason:
                return
            self._reason = reason
        self._dialogue.post(_Request(reason))

    def observe(self, on_end: Callable[[LastRotation], None]) -> Callable[[], None]:
        """Be told of the end of each rotation, on its thread; what is given ends that."""
        return self._ends.observe(on_end)

    @property
    def under_way(self) -> str:
        """Why there is a rotation that has not ended; empty if there is none."""
        return self._reason

    @property
    def certificate_id(self) -> str:
        """Of the identity in use; empty where the config names its certificate."""
        return self._in_use.certificate_id

    def take(self, command: dict[str, Any]) -> dict[str, Any]:
        """``milepost-agent rotate``, over the control socket; see ``request``."""
        answer: dict[str, Any] = {
            "began": False,
            "under_way": self.under_way,
            "after_number": self._ends.number,
        }
        if command.get("if_due"):
            why = self._in_use.why_due()
            if self._obstacle is not None or why is None:
                return answer
        else:
            why = "asked for on the board"
        if not answer["under_way"]:
            self.request(why)
            answer["began"] = True
        return answer

    def account(self) -> dict[str, Any] | None:
        """For the agent's account; ``None`` where the config names the certificate."""
        identity = self._in_use.account()
        if identity is None:
            return None
        return {
            **identity,
            "rotating_because": self._reason or None,
            "step": self._step or None,
            "last_rotation": self._ends.account(),
        }

    # --- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._ends.load()
            was_cut_off = self._was_cut_off()
            if was_cut_off:
                self._reason = _CUT_OFF
            self._in_use.learn()
            if was_cut_off:
                self._rotate(_CUT_OFF)
            look_s = self._clock.monotonic_s() + _FIRST_LOOK_S
            while True:
                next_s = look_s if self._again_s is None else min(look_s, self._again_s)
                item = self._dialogue.wait(next_s - self._clock.monotonic_s())
                now_s = self._clock.monotonic_s()
                if isinstance(item, _Request) and self._reason:  # none has answered it meanwhile
                    self._rotate(item.reason)
                elif self._again_s is not None and now_s >= self._again_s:
                    self._rotate("the last try was not conclusive")
                elif now_s >= look_s:
                    look_s = now_s + _LOOK_S
                    self._look(now_s)
        except StoppedError:
            pass

    def _was_cut_off(self) -> bool:
        try:
            pending = self._store.pending()
        except AgentError as error:
            LOG.warning("%s", error.message)
            return False
        return pending is not None and pending.template == self._template

    def _look(self, now_s: float) -> None:
        self._in_use.remove_predecessors()
        why = self._in_use.why_due()
        if why is not None and now_s >= self._not_before_s:
            self._rotate(why)

    def _rotate(self, reason: str) -> None:
        with self._lock:
            self._reason = reason
        LOG.info("rotating the identity: %s", reason)
        self._again_s = None
        self._dialogue.channel.want(wanted=True)
        try:
            with self._store.locked():
                identity = self._succession.carry_out()
        except AgentError as error:
            self._failed(error)
        except StoppedError:
            raise
        except Exception as error:
            # a defect here must not end the thread; samples go on
            LOG.exception("a rotation failed")
            self._failed(IdentityError(f"internal error: {error!r}", hint="Report it."))
        else:
            self._succeeded(identity, reason)
        finally:
            self._dialogue.channel.want(wanted=False)
            with self._lock:
                self._reason = self._step = ""

    def _succeeded(self, identity: Identity, reason: str) -> None:
        self._tries, self._pause_s = 0, _LEAST_PAUSE_S
        self._in_use.learn()
        LOG.info("the identity was rotated: certificate %.12s…", identity.certificate_id)
        self._ends.ended(reason, succeeded=True, certificate_id=identity.certificate_id)

    def _failed(self, error: AgentError) -> None:
        self._tries += 1
        now_s = self._clock.monotonic_s()
        if self._is_worth_another_try(error):
            self._again_s = now_s + _AGAIN_S
        else:
            self._tries = 0
            self._not_before_s = now_s + self._pause_s
            self._pause_s = min(_MOST_PAUSE_S, 2 * self._pause_s)
            self._discard()
        LOG.warning("the identity was not rotated: %s", error)
        self._ends.ended(error.message, succeeded=False, certificate_id=self.certificate_id)

    def _is_worth_another_try(self, error: AgentError) -> bool:
        if self._tries >= _MOST_TRIES:
            return False
        if isinstance(error, UnprovenError):
            return not error.final
        return isinstance(error, StateError | UnansweredError) and self._has_certificate()

    def _has_certificate(self) -> bool:
        with contextlib.suppress(AgentError):
            pending = self._store.pending()
            return pending is not None and pending.certificate is not None
        return False

    def _discard(self) -> None:
        with contextlib.suppress(AgentError):
            pending = self._store.pending()
            if pending is not None and pending.template == self._template:
                with self._store.locked():
                    self._store.discard_pending()

    def _note_step(self, step: str) -> None:
        LOG.info("rotation: %s", step)
        self._step = step

    def _why_hopeless(self) -> IdentityError | None:
        """Why there will be no connection to rotate over."""
        if not self._in_use.has_expired():
            return None
        return IdentityError(
            "the certificate has expired, and the broker does not let the vehicle in with it",
            hint="Provision the vehicle anew, with a claim certificate:"
            " milepost-agent provision --force",
        )


def _obstacle(credentials: Credentials, store: IdentityStore) -> IdentityError | None:
    """Why this identity cannot be rotated, whatever happens."""
    if not store.holds(credentials.certificate_file):
        return IdentityError(
            "the config names broker.certificate_file, and rotation never changes what a person"
            " has put somewhere",
            hint="Provision the vehicle and leave certificate_file and key_file away, so that"
            " the identity in state.dir counts (docs/rotation.md).",
        )
    return None
