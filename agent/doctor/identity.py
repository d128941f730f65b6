"""The identity that provisioning left, and its rotation: how long it counts, what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final

from agent.config import IdentitySettings
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Running, Subject
from agent.errors import AgentError
from agent.host import system_utc
from agent.identity import Identity, IdentityStore
from agent.identity.due import Validity, due_at, why_due
from agent.identity.in_use import validity_of
from agent.identity.key_process import KeyProcess
from agent.identity.last import LastRotation, load_last
from agent.transport import Credentials

NOT_CHECKED: Final = Kind(
    "identity-not-checked", Severity.INFO, "not checked: [broker] is missing or cannot be used"
)
BY_HAND: Final = Kind(
    "identity-by-hand",
    Severity.INFO,
    "the config names the certificate: it is not rotated, a person replaces it",
)
DENIED: Final = Kind(
    "identity-not-readable-here",
    Severity.INFO,
    "not checked: this user may not read {folder}",
    "sudo milepost-agent doctor --only identity",
)
BROKEN: Final = Kind(
    "identity-broken",
    Severity.ERROR,
    "the identity cannot be used: {reason}",
    "sudo ls -lR {folder}",
    "{hint}",
)
NO_KEY_MAKER: Final = Kind(
    "identity-no-key-maker",
    Severity.WARNING,
    "the vehicle cannot make its next key: the package {package} is not installed",
    "pip install 'milepost[{extra}]'",
)
CUT_OFF: Final = Kind(
    "identity-rotation-cut-off",
    Severity.WARNING,
    "a rotation was cut off, and no agent runs that would go on with it",
    "sudo systemctl start milepost-agent",
    "The certificate in use is as before.",
)
UNDER_WAY: Final = Kind(
    "identity-rotation-under-way", Severity.INFO, "a rotation is under way: {step}"
)
FAILED: Final = Kind(
    "identity-rotation-failed",
    Severity.WARNING,
    "the last rotation failed on {date}, and the vehicle fell back to the certificate before:"
    " {reason}",
    "sudo milepost-agent rotate --wait",
    "docs/rotation.md says what each reason means.",
)
DUE: Final = Kind(
    "identity-rotation-due",
    Severity.WARNING,
    "rotation is due since {date}: {why}",
    "sudo milepost-agent rotate --wait",
    "A running agent that is connected does it by itself.",
)
GOOD: Final = Kind(
    "identity-good",
    Severity.OK,
    "certificate {number}, {days} days left, rotated from {date} on",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the state directory, the files and the running agent say."""

    now: datetime
    folder: str = ""
    fault: AgentError | None = None
    is_denied: bool = False
    identity: Identity | None = None
    validity: Validity | None = None
    settings: IdentitySettings = field(default_factory=IdentitySettings)
    is_pending: bool = False
    last: LastRotation | None = None
    running: Running = Running.NO
    told: dict[str, Any] | None = None
    """Of the running agent, on its identity."""

    missing: str = ""
    """The package that makes keys, where it is not installed."""


def gather(subject: Subject) -> Facts | None:
    """Read the identity; ``None`` without ``[broker]``."""
    broker = subject.parts.broker
    if broker is None:
        return None
    store = IdentityStore(subject.parts.state.dir)
    needed = ["cryptography"] if broker.pkcs11 is None else ["cryptography", "pkcs11"]
    facts: dict[str, Any] = {
        "now": system_utc(),
        "folder": str(store.folder),
        "running": subject.running,
        "missing": next((one for one in needed if find_spec(one) is None), ""),
    }
    whole = subject.parts.settings
    settings = facts["settings"] = whole.identity if whole else IdentitySettings()
    if subject.account is not None:
        facts["told"] = subject.account.get("identity")
    if broker.certificate_file is None or not store.holds(broker.certificate_file):
        return Facts(**facts)
    try:
        identity = store.current()
        pending = store.pending()
        facts["last"] = load_last(store)
        facts["is_pending"] = pending is not None and pending.template == settings.template_name
        if identity is not None:
            facts["identity"] = identity
            facts["validity"] = validity_of(
                identity,
                Credentials.of(broker),
                KeyProcess(subject.parts.state.dir, broker.pkcs11),
            )
    except AgentError as error:
        denied = isinstance(error.__cause__, PermissionError)
        return Facts(**facts, **({"is_denied": True} if denied else {"fault": error}))
    return Facts(**facts)


def check(facts: Facts | None) -> Iterator[Finding]:
    """Findings of the identity and its rotation."""
    if facts is None:
        yield NOT_CHECKED()
    elif facts.is_denied:
        yield DENIED(folder=facts.folder)
    elif facts.fault is not None:
        yield BROKEN(reason=facts.fault.message, hint=facts.fault.hint, folder=facts.folder)
    elif facts.identity is None:
        yield BY_HAND()
    else:
        yield from _rotation(facts, facts.identity)


def _rotation(facts: Facts, identity: Identity) -> Iterator[Finding]:
    if facts.missing:
        extra = "provision-pkcs11" if facts.missing == "pkcs11" else "provision"
        yield NO_KEY_MAKER(package=facts.missing, extra=extra)
    told = facts.told or {}
    if told.get("rotating_because"):
        yield UNDER_WAY(step=told.get("step") or "it waits for a connection")
    elif facts.is_pending and facts.running is Running.NO:
        yield CUT_OFF()
    if facts.last is not None and not facts.last.succeeded:
        yield FAILED(date=facts.last.ended_at[:10], reason=facts.last.reason)
    validity = facts.validity
    if validity is None or facts.now < validity.not_before:
        return  # the area of the certificate says why
    due, why = due_at(validity, facts.settings), why_due(validity, facts.settings, facts.now)
    if why is not None and due is not None:
        yield DUE(date=_date(due), why=why)
        return
    yield GOOD(
        number=identity.certificate_id[:12],
        days=int(validity.days_left(facts.now)),
        date=_date(due) if due else "no day",
    )


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
