"""``provision --dry-run``: what would be sent, and whether it could be; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config import AgentSettings
from agent.errors import AgentError, ConfigError
from agent.host import system_utc
from agent.identity.keys import key_maker
from agent.identity.store import IdentityStore
from agent.ports import Clock
from agent.provision.claim import Claim, check_not_expired, load_claim
from agent.provision.failures import Cause, ProvisionError
from agent.provision.plan import Plan, make_plan
from agent.provision.reach import reach, wait_for_clock


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``fault`` says what is wrong with it."""

    name: str
    text: str
    fault: AgentError | None = None


def dry_run(settings: AgentSettings, clock: Clock) -> Iterator[Check]:
    """Look at everything that provisioning will need, in its order."""
    plan: Plan | None = None
    claim: Claim | None = None
    try:
        plan = make_plan(settings)
    except ConfigError as error:
        yield Check("parameters", "", error)
    else:
        yield Check("template", plan.template)
        for name, told in plan.parameters.items():
            yield Check("parameter", f"{name} = {told.value} (from {told.source})")
        yield Check("client id", plan.endpoint.client_id)
    keys = key_maker(settings.broker.pkcs11)
    yield _checked("key", lambda: f"EC P-256, made and kept {keys.check()}")
    yield _checked("state", lambda: _state(settings.state.dir))
    try:
        claim = load_claim(settings)
        check_not_expired(claim, system_utc())
        yield Check(
            "claim",
            f"{claim.credentials.certificate_file}: {claim.name or 'no name'},"
            f" valid until {claim.not_after:%Y-%m-%d}",
        )
    except ProvisionError as error:
        yield Check("claim", "", error)
    if claim is None or plan is None:
        return
    found, endpoint = claim, plan.endpoint
    yield _checked("clock", lambda: _clock(found, clock))
    yield _checked(
        "broker", lambda: reach(endpoint, found, timeout_s=settings.provision.answer_timeout_s)
    )


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, look())
    except AgentError as error:
        return Check(name, "", error)


def _state(state_dir: Path) -> str:
    pending = IdentityStore(state_dir).pending()
    there = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ProvisionError(
            Cause.STATE_UNUSABLE,
            f"state.dir: this user may not write into {there}",
            hint="Run it as the agent's user or with sudo.",
        )
    if pending is None:
        return f"{state_dir} can be written"
    far = "certificate" if pending.certificate else "key"
    return (
        f"{state_dir} can be written; an earlier try got as far as its {far}, and is gone on from"
    )


def _clock(claim: Claim, clock: Clock) -> str:
    wait_for_clock(claim, wait_s=0, clock=clock, tell=lambda _: None)
    return f"{system_utc():%Y-%m-%d %H:%M} UTC"
