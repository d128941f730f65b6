"""``milepost-agent provision``: once on each board, by hand or by a unit at its first boot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, NoReturn

import click

from agent.cli_common import EXIT_FAILED, EXIT_USAGE, PROGRAM, config_option
from agent.config import AgentSettings, load
from agent.errors import AgentError, ConfigError, IdentityError, StateError
from agent.identity.records import Identity
from agent.identity.store import IdentityStore
from agent.ports import Clock
from agent.provision.failures import Cause, ProvisionError, Retry
from agent.publisher.backoff import Backoff, BackoffSettings

_BACKOFF: Final = BackoffSettings(
    base_s=4.0, cap_s=300.0, refused_base_s=30.0, refused_cap_s=900.0, least_gap_s=2.0
)
"""A depot's whole lot may be switched on at one moment, before its access point."""


@click.command(
    epilog="""\b
Examples:
  sudo milepost-agent provision --dry-run
  sudo milepost-agent provision
  milepost-agent provision --config agent.toml --wait --json

\b
Run it again after any failure: it goes on where it stopped. Exit codes: 0 provisioned, now or
before; 2 wrong usage or config; 10 to 20 as in docs/provisioning.md.
"""
)
@config_option
@click.option("--dry-run", is_flag=True, help="Show what would be sent and look whether it could.")
@click.option(
    "--wait", is_flag=True, help="Try again, ever more slowly, until it is done or cannot be."
)
@click.option("--force", is_flag=True, help="Get a new identity even if there is one.")
@click.option("--yes", is_flag=True, help="Do not ask with --force.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def provision(
    config_file: Path, *, dry_run: bool, wait: bool, force: bool, yes: bool, as_json: bool
) -> None:
    """Turn this board into a vehicle of the fleet: a key of its own, a certificate, a name.

    It asks with the claim certificate, which is the same on every board of a lot. The private
    key is made here and never leaves the board.
    """
    show = _Show(as_json=as_json)
    try:
        settings = load(config_file)
        store = IdentityStore(settings.state.dir)
        identity = store.current()
        if identity is not None and not force:
            if not dry_run:
                _give_to_owner(store.folder, settings.state.dir)
            show.end("already-provisioned", identity)
            return
        if settings.broker.certificate_file is not None:
            show.line(
                "note: the config names broker.certificate_file, which counts rather than what"
                " this gets"
            )
        if dry_run:
            sys.exit(_dry_run(settings, show))
        if identity is not None and not yes:
            click.confirm(
                f"This board is {identity.vehicle_id} already. Get a new identity for it?",
                abort=True,
                err=True,
            )
        try:
            identity = _provision(settings, store, show, wait=wait)
        finally:
            _give_to_owner(store.folder, settings.state.dir)
        show.end("provisioned", identity)
    except AgentError as error:
        show.fail(error)


def _provision(
    settings: AgentSettings, store: IdentityStore, show: _Show, *, wait: bool
) -> Identity:
    from agent import host  # noqa: PLC0415  --help stays quick

    clock = host.SystemClock()
    backoff = Backoff(_BACKOFF, SystemRandom())
    with store.locked():
        while True:
            backoff.attempts(clock.monotonic_s())
            try:
                return _try_once(settings, store, clock, show.line)
            except ProvisionError as error:
                if not wait or error.retry is Retry.NEVER:
                    raise
                failure = error
            is_refusal = failure.retry is Retry.SLOWLY
            pause_s = backoff.lost(clock.monotonic_s(), unauthorised=is_refusal)
            show.line(f"{failure.message}; trying again in {pause_s:.0f} s")
            clock.sleep_s(pause_s)


def _try_once(
    settings: AgentSettings, store: IdentityStore, clock: Clock, tell: Callable[[str], None]
) -> Identity:
    from agent.host import system_utc  # noqa: PLC0415  --help stays quick
    from agent.identity.keys import key_maker  # noqa: PLC0415  optional extras, and slow to load
    from agent.provision import claim, plan, reach, steps  # noqa: PLC0415  likewise

    what = plan.make_plan(settings)
    for told in what.parameters.values():
        if told.doubt:
            tell(f"note: {told.doubt}")
    files = claim.load_claim(settings)
    wait_s = settings.provision.clock_wait_s
    reach.wait_for_clock(files, wait_s=wait_s, clock=clock, tell=tell)
    claim.check_not_expired(files, system_utc())
    connect = plan.connector(settings, what, files, clock)

    def reach_and_connect() -> Any:
        timeout_s = settings.provision.answer_timeout_s
        tell(f"reached {reach.reach(what.endpoint, files, timeout_s=timeout_s)}")
        return connect()

    return steps.Provisioning(
        store=store,
        keys=key_maker(settings.broker.pkcs11),
        request=steps.Request(what.template, what.values),
        connect=reach_and_connect,
        tell=tell,
    ).run()


def _dry_run(settings: AgentSettings, show: _Show) -> int:
    from agent import host  # noqa: PLC0415  --help stays quick
    from agent.provision.dry_run import dry_run  # noqa: PLC0415  optional extras

    code, checks = 0, []
    for check in dry_run(settings, host.SystemClock()):
        fault = check.fault
        show.line(f"{check.name:<11}{f'FAILS: {fault}' if fault else check.text}")
        checks.append(
            {"name": check.name, "text": check.text, "fault": fault.message if fault else None}
        )
        if fault is not None and not code:
            code = exit_code(fault)
    show.line("nothing was changed")
    show.json({"result": "dry-run", "exit_code": code, "checks": checks})
    return code


def exit_code(error: AgentError) -> int:
    """The exit code of docs/provisioning.md."""
    if isinstance(error, ProvisionError):
        return error.cause.exit_code
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    if isinstance(error, StateError):
        return Cause.STATE_UNUSABLE.exit_code
    if isinstance(error, IdentityError):
        return Cause.KEY_UNUSABLE.exit_code
    return EXIT_FAILED


def _give_to_owner(folder: Path, state_dir: Path) -> None:
    """What root made in the agent's state directory is the agent's."""
    if os.geteuid() != 0 or not folder.exists():
        return
    owner = state_dir.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


class _Show:
    """Progress and outcome; with ``--json`` progress goes to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def line(self, text: str) -> None:
        """One line of progress."""
        click.echo(text, err=self._as_json)

    def json(self, outcome: dict[str, Any]) -> None:
        """The outcome, where JSON was asked for."""
        if self._as_json:
            click.echo(json.dumps(outcome, indent=2))

    def end(self, result: str, identity: Identity) -> None:
        """It is provisioned."""
        self.json(
            {
                "result": result,
                "exit_code": 0,
                "vehicle_id": identity.vehicle_id,
                "certificate_id": identity.certificate_id,
                "template": identity.template,
                "obtained_at": identity.obtained_at,
                "generation": identity.generation,
            }
        )
        if self._as_json:
            return
        since = f"certificate {identity.certificate_id[:16]}, since {identity.obtained_at}"
        if result == "provisioned":
            click.echo(f"provisioned: this vehicle is {identity.vehicle_id} ({since})")
            click.echo(f"next: {PROGRAM} check-config, then start the agent")
        else:
            click.echo(f"already provisioned as {identity.vehicle_id} ({since}); nothing was done")

    def fail(self, error: AgentError) -> NoReturn:
        """It is not; exits."""
        code = exit_code(error)
        cause = error.cause.name.lower() if isinstance(error, ProvisionError) else "other"
        self.json(
            {
                "result": "failed",
                "exit_code": code,
                "cause": cause,
                "message": error.message,
                "hint": error.hint,
                "error_code": getattr(error, "error_code", ""),
            }
        )
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(code)
