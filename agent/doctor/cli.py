"""``milepost-agent doctor``: the command and how its report is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.text import Text

from agent.cli_common import config_option
from agent.doctor.areas import AREAS, Report, look
from agent.doctor.finding import Finding, Severity
from agent.doctor.subject import Subject, examine

TIMEOUT_S: Final = 30.0

EXIT_CODES: Final = {
    Severity.OK: 0,
    Severity.INFO: 0,
    Severity.WARNING: 1,
    Severity.ERROR: 2,
}

_MARKS: Final = {
    Severity.OK: ("ok", "green"),
    Severity.INFO: ("info", "cyan"),
    Severity.WARNING: ("WARNING", "yellow"),
    Severity.ERROR: ("ERROR", "red"),
}
_INDENT: Final = 22


class AreaList(click.ParamType):  # type: ignore[type-arg]  # generic only in click's stubs
    """``gps,can``."""

    name = "areas"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """The names in the order of the table."""
        names = {name.strip() for name in value.split(",") if name.strip()}
        unknown = sorted(names - AREAS.keys())
        if unknown or not names:
            self.fail(
                f"no area {', '.join(unknown) or value!r}; there are {', '.join(AREAS)}", param, ctx
            )
        return tuple(name for name in AREAS if name in names)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The areas that are not named yet."""
        del ctx, param
        before, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{name}", help=area.about)
            for name, area in AREAS.items()
            if name.startswith(last) and name not in before.split(",")
        ]


@click.command(
    epilog="""\b
Examples:
  sudo milepost-agent doctor
  milepost-agent doctor --config agent.toml --only gps,can
  milepost-agent doctor --json | jq '.findings[] | select(.severity == "error")'
\b
Exit codes: 0 nothing to mend, 1 a warning, 2 an error (or wrong usage).
Every finding and its remedy: docs/doctor.md.
"""
)
@config_option
@click.option(
    "--only",
    type=AreaList(),
    default=",".join(AREAS),
    metavar="AREA,…",
    help=f"Look at these areas only: {', '.join(AREAS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds to wait for the slowest area; the others do not wait for it.",
)
def doctor(config_file: Path, only: tuple[str, ...], timeout_s: float, *, as_json: bool) -> None:
    """Find out what is wrong on this board, and the command that mends it.

    Works whether the agent runs or not, without a network, and with a broken config as far
    as it can be read. As root it sees more. Nothing is changed.
    """
    subject = examine(config_file)
    reports: list[Report] = []
    console = Console(stderr=True)
    with ExitStack() as stack:
        status = None
        if console.is_terminal and not as_json:
            status = stack.enter_context(console.status("looking…"))

        def waits_for(name: str) -> None:
            if status is not None:
                status.update(f"looking at {name}: {AREAS[name].about}…")

        for report in look(subject, only, timeout_s, waits_for):
            reports.append(report)
            if not as_json:
                show(report, Console(highlight=False))
    severity = max(report.severity for report in reports)
    if as_json:
        click.echo(json.dumps(as_object(subject, reports, severity), indent=2))
    else:
        click.echo(summary(reports))
    sys.exit(EXIT_CODES[severity])


def show(report: Report, console: Console) -> None:
    """One area for a person; no line is folded, so that commands can be copied."""
    for number, finding in enumerate(report.findings):
        mark, colour = _MARKS[finding.severity]
        line = Text(f"{report.area if number == 0 else '':<13}")
        line.append(f"{mark:<{_INDENT - 13}}", style=colour)
        first, *others = finding.text.strip().splitlines()
        console.print(line + Text(first), soft_wrap=True)
        for text in others:
            console.print(Text(" " * _INDENT + text.strip()), soft_wrap=True)
        if finding.severity >= Severity.WARNING:
            for text in finding.advice.splitlines():
                console.print(Text(" " * _INDENT + text.strip(), style="dim"), soft_wrap=True)
        if finding.command:
            console.print(
                Text(" " * _INDENT + f"$ {finding.command}", style="bold"), soft_wrap=True
            )


def summary(reports: Iterable[Report]) -> str:
    """The last line."""
    findings: list[Finding] = [finding for report in reports for finding in report.findings]
    counts = {
        severity: sum(finding.severity is severity for finding in findings) for severity in Severity
    }
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    if not errors and not warnings:
        return "Nothing to mend."
    told = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    return f"{' and '.join(told)}: run what stands behind $, then doctor again."


def as_object(subject: Subject, reports: Iterable[Report], severity: Severity) -> dict[str, Any]:
    """The whole report for a program."""
    return {
        "vehicle_id": subject.parts.vehicle_id,
        "config_file": str(subject.config_file),
        "agent_runs": subject.running.value,
        "severity": severity.word,
        "findings": [
            {"area": report.area, **finding.as_json()}
            for report in reports
            for finding in report.findings
        ],
    }
