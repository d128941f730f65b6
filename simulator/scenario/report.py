"""Pass or fail: in words for the person at the desk, as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simulator.scenario.expectations import Check

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one scenario; ``failure`` is why it could not be run to its end."""

    name: str
    title: str
    checks: Sequence[Check]
    samples: int
    events: int
    duration_s: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether it ran to its end and everything came as expected."""
        return not self.failure and all(check.passed for check in self.checks)


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """The outcome of one; of a scenario that passed only what was looked at."""
    yield f"{'PASS' if outcome.passed else 'FAIL'}  {outcome.name}: {outcome.title}"
    for line in outcome.failure.splitlines():
        yield f"      {line}"
    for check in outcome.checks:
        if check.passed:
            yield f"      ok    {check.name}: {check.found}"
        else:
            yield f"      FAIL  {check.name}: wanted {check.wanted}; found {check.found}"


def summary_line(outcomes: Sequence[Outcome]) -> str:
    """The last word."""
    failed = [outcome.name for outcome in outcomes if not outcome.passed]
    count = len(outcomes)
    noun = "scenario" if count == 1 else "scenarios"
    if not failed:
        return f"{count} {noun} passed"
    return f"{len(failed)} of {count} {noun} FAILED: {', '.join(failed)}"


def report_json(outcomes: Sequence[Outcome]) -> Json:
    """All of it."""
    return {
        "passed": all(outcome.passed for outcome in outcomes),
        "scenarios": [
            {
                "name": outcome.name,
                "title": outcome.title,
                "passed": outcome.passed,
                "failure": outcome.failure or None,
                "duration_s": round(outcome.duration_s, 3),
                "samples": outcome.samples,
                "events": outcome.events,
                "checks": [asdict(check) for check in outcome.checks],
            }
            for outcome in outcomes
        ],
    }
