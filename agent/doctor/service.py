"""The service and the running agent: does systemd mind it, and what does it say of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.account import imbalance
from agent.cli_common import DEFAULT_CONFIG
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Running, Subject
from agent.watch.words import duration

MANY_RESTARTS: Final = 3

NO_SYSTEMD: Final = Kind(
    "service-no-systemd", Severity.INFO, "systemd does not run here: nothing restarts the agent"
)
NOT_INSTALLED: Final = Kind(
    "service-not-installed",
    Severity.WARNING,
    "there is no service milepost-agent: nothing starts the agent after a reboot",
    "sudo cp systemd/milepost-agent.service systemd/milepost-clock.* /etc/systemd/system/ && "
    "sudo systemctl daemon-reload && sudo systemctl enable --now milepost-agent",
    "The Debian package brings all units.",
)
NOT_ENABLED: Final = Kind(
    "service-not-enabled",
    Severity.WARNING,
    "the service is not enabled: it does not start after a reboot",
    "sudo systemctl enable milepost-agent",
)
FAILED: Final = Kind(
    "service-failed",
    Severity.ERROR,
    "the service has failed ({result})",
    "journalctl -u milepost-agent -b -n 50 --no-pager; sudo systemctl restart milepost-agent",
)
STOPPED: Final = Kind(
    "service-stopped",
    Severity.ERROR,
    "the service is {state}: nothing is sampled",
    "sudo systemctl start milepost-agent",
)
NO_CONFIG: Final = Kind(
    "service-no-config",
    Severity.ERROR,
    "the service waits for its config: there is no {file}",
    "milepost-agent preset list && sudo milepost-agent init --preset gps-only && "
    "sudo systemctl start milepost-agent",
)
AWAITS_IDENTITY: Final = Kind(
    "service-awaits-identity",
    Severity.ERROR,
    "the service waits for its identity: there is a claim certificate, and provisioning has not "
    "come to its end",
    "journalctl -u milepost-provision -n 20 --no-pager; sudo milepost-agent provision --dry-run",
    "milepost-provision.service tries again by itself, and then starts the agent.",
)
RESTARTS: Final = Kind(
    "service-restarts",
    Severity.WARNING,
    "systemd has restarted the agent {restarts} times since it was last started by hand",
    "journalctl -u milepost-agent -p warning -n 50 --no-pager",
)
NO_WATCHDOG: Final = Kind(
    "service-no-watchdog",
    Severity.WARNING,
    "the service has no watchdog: an agent that hangs is not restarted",
    "printf '[Service]\\nType=notify\\nWatchdogSec=60\\n' | sudo install -D -m 0644 /dev/stdin "
    "/etc/systemd/system/milepost-agent.service.d/watchdog.conf && sudo systemctl daemon-reload && "
    "sudo systemctl restart milepost-agent",
)
NOT_RUNNING: Final = Kind(
    "agent-not-running",
    Severity.INFO,
    "no agent runs on this state",
    "milepost-agent run --config {file}",
)
NOT_ASKED: Final = Kind(
    "agent-not-asked",
    Severity.INFO,
    "whether the agent runs, and how it is, cannot be asked as this user",
    "sudo milepost-agent doctor --config {file}",
)
MUTE: Final = Kind(
    "agent-mute",
    Severity.ERROR,
    "an agent holds the state directory, but does not answer",
    "sudo systemctl restart milepost-agent && journalctl -u milepost-agent -n 50 --no-pager",
)
UNACCOUNTED: Final = Kind(
    "agent-unaccounted",
    Severity.ERROR,
    "{count} messages are neither delivered, waiting nor counted as dropped",
    "milepost-agent status --config {file} --json",
    "That is a defect of the agent: please report it with this output and the log.",
)
DROPPED: Final = Kind(
    "agent-dropped",
    Severity.WARNING,
    "since its start the agent has given up messages: {reasons}",
    "milepost-agent outbox status --config {file}",
    "What each reason means is in docs/outbox.md.",
)
FAULT: Final = Kind(
    "agent-source-fault",
    Severity.WARNING,
    "the running agent has been without {source} for {lasts_s:.0f} s: {reason}",
    "journalctl -u milepost-agent -n 50 --no-pager",
)
LIMITED: Final = Kind(
    "agent-limited",
    Severity.INFO,
    "the {budget} budget of the day keeps the agent in {mode}; it would be in {wanted}",
    "milepost-agent status --config {file}",
)
GOOD: Final = Kind(
    "agent-good", Severity.OK, "runs for {duration}, in {mode}, {waiting} messages wait"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """``unit`` are systemd's properties, empty without a unit; ``account`` the agent's own."""

    has_systemd: bool
    unit: dict[str, str]
    running: Running
    account: dict[str, Any] | None = None
    config_file: str = ""
    unit_config: str = ""
    """The config that the unit's conditions ask for, where it is not there."""


def gather(subject: Subject) -> Facts:
    """All of it was asked before."""
    return Facts(
        has_systemd=Path("/run/systemd/system").is_dir(),
        unit=subject.unit,
        running=subject.running,
        account=subject.account,
        config_file=str(subject.config_file),
        unit_config="" if DEFAULT_CONFIG.exists() else str(DEFAULT_CONFIG),
    )


def check(facts: Facts) -> Iterator[Finding]:
    """Findings of the service and of the running agent."""
    if not facts.has_systemd:
        yield NO_SYSTEMD()
    elif not facts.unit:
        yield NOT_INSTALLED()
    else:
        yield from _unit(facts.unit, facts.unit_config)
    if facts.account is not None:
        yield from _account(facts.account, facts.config_file)
    elif facts.running is Running.YES:
        yield MUTE()
    elif facts.running is Running.UNKNOWN:
        yield NOT_ASKED(file=facts.config_file)
    elif not facts.unit:
        yield NOT_RUNNING(file=facts.config_file)


def _unit(unit: dict[str, str], missing_config: str) -> Iterator[Finding]:
    state = unit.get("ActiveState", "")
    was_asked = unit.get("ConditionTimestampMonotonic", "0") != "0"
    if state == "failed":
        yield FAILED(result=unit.get("Result", ""))
    elif state == "inactive" and was_asked and unit.get("ConditionResult") == "no":
        yield NO_CONFIG(file=missing_config) if missing_config else AWAITS_IDENTITY()
    elif state not in {"active", "activating", "reloading"}:
        yield STOPPED(state=state)
    if unit.get("UnitFileState") not in {"enabled", "enabled-runtime", "static"}:
        yield NOT_ENABLED()
    restarts = unit.get("NRestarts", "0")
    if restarts.isdigit() and int(restarts) >= MANY_RESTARTS:
        yield RESTARTS(restarts=restarts)
    # systemd tells it of a running service only
    if state == "active" and unit.get("WatchdogUSec", "0") in {"0", "infinity"}:
        yield NO_WATCHDOG()


def _account(account: dict[str, Any], config_file: str) -> Iterator[Finding]:
    found = list(_troubles(account, config_file))
    yield from found
    if not found:
        yield GOOD(
            duration=duration(account.get("uptime_s", 0)),
            mode=account.get("mode"),
            waiting=account.get("backlog_messages"),
        )


def _troubles(account: dict[str, Any], config_file: str) -> Iterator[Finding]:
    lost = imbalance(account)
    if lost:
        yield UNACCOUNTED(count=lost, file=config_file)
    dropped = account["dropped_messages"]
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        yield DROPPED(reasons=reasons, file=config_file)
    for fault in account.get("faults", ()):
        source = fault["code"].removeprefix("source:")
        if source != fault["code"] and not source.startswith("gps"):  # those are the GPS area's
            yield FAULT(source=source, lasts_s=fault["lasts_s"], reason=fault["reason"])
    if account.get("limited_by"):
        yield LIMITED(
            budget=account["limited_by"],
            mode=account["mode"],
            wanted=account["wanted_mode"],
            file=config_file,
        )
