"""What came of a run beside what was expected. Pure: evidence in, checks out.

Each check says what was wanted and what was found, so that a report is read without the
scenario beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from simulator.scenario.evidence import Evidence, Message
from simulator.scenario.model import Expect, FieldExpectation, FieldState

CLOCK_SLACK: Final = timedelta(seconds=2)
"""GPS time comes in whole milliseconds and is believed within its latency."""

EDGE_S: Final = 0.05
"""A sample on the edge of a while may belong to either side."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    passed: bool
    wanted: str
    found: str


def check(expect: Expect, evidence: Evidence, *, starts: int) -> list[Check]:
    """All checks of a scenario, those that are always made first."""
    return [
        *_always(expect, evidence, starts),
        *_events(expect, evidence),
        *_quality(expect, evidence),
        *(_field(wanted, evidence) for wanted in expect.field),
    ]


def _always(expect: Expect, evidence: Evidence, starts: int) -> Iterator[Check]:
    yield Check(
        "unexplained", evidence.unexplained == 0, "0 messages", f"{evidence.unexplained} messages"
    )
    causes = ", ".join(f"{count} {cause}" for cause, count in sorted(evidence.causes.items()))
    yield Check(
        "missing",
        evidence.missing <= expect.missing_max,
        f"at most {expect.missing_max}",
        f"{evidence.missing}" + (f" ({causes})" if causes else ""),
    )
    yield Check(
        "samples",
        len(evidence.samples) >= expect.samples_min,
        f"at least {expect.samples_min}",
        str(len(evidence.samples)),
    )
    runs = {message.run_id for message in evidence.messages}
    yield Check("runs of the agent", len(runs) == starts, str(starts), str(len(runs)))
    wrong = [
        message
        for message in evidence.messages
        if not evidence.started - CLOCK_SLACK <= message.timestamp <= evidence.ended + CLOCK_SLACK
    ]
    yield Check(
        "timestamps",
        not wrong,
        f"{_clock(evidence.started)} to {_clock(evidence.ended)}",
        f"{len(wrong)} outside, e.g. {wrong[0].timestamp.isoformat()}" if wrong else "all within",
    )


def _events(expect: Expect, evidence: Evidence) -> Iterator[Check]:
    seen = [_name(event) for event in evidence.events]
    told = ", ".join(dict.fromkeys(seen)) or "no event"
    for wanted in expect.events:
        yield Check(f"event {wanted}", any(_is(one, wanted) for one in seen), "came", told)
    for unwanted in expect.no_events:
        came = [one for one in seen if _is(one, unwanted)]
        found = f"came {len(came)} times" if came else "did not come"
        yield Check(f"no event {unwanted}", not came, "did not come", found)
    if expect.trips is not None:
        begun = {
            event.body.get("trip_id")
            for event in evidence.events
            if event.body["event_type"] == "trip_started"
        }
        sampled = {
            trip_id
            for sample in evidence.samples
            if (trip_id := value_of(sample.body, "vehicle_status.trip_id")) is not None
        }
        trips = begun | sampled
        yield Check("trips", len(trips) == expect.trips, str(expect.trips), str(len(trips)))
    if expect.modes:
        entered = [
            event.body.get("details", {}).get("to")
            for event in evidence.events
            if event.body["event_type"] == "mode_changed"
        ]
        yield Check(
            "modes",
            set(expect.modes) <= set(entered),
            ", ".join(expect.modes),
            ", ".join(dict.fromkeys(filter(None, entered))) or "none entered",
        )


def _quality(expect: Expect, evidence: Evidence) -> Iterator[Check]:
    limit_m = expect.position_error_max_m
    if limit_m is not None:
        errors_m = [
            error_m
            for sample in evidence.samples
            if (error_m := evidence.position_error_m(sample)) is not None
        ]
        worst_m = max(errors_m, default=None)
        yield Check(
            "position error",
            worst_m is not None and worst_m <= limit_m,
            f"at most {limit_m:g} m",
            "no position" if worst_m is None else f"{worst_m:.1f} m of {len(errors_m)} positions",
        )
    if expect.time_quality:
        qualities = {message.body["time_quality"] for message in evidence.messages}
        yield Check(
            "time quality",
            qualities <= set(expect.time_quality),
            " or ".join(expect.time_quality),
            ", ".join(sorted(qualities)) or "no message",
        )


def _field(wanted: FieldExpectation, evidence: Evidence) -> Check:
    to_s = evidence.duration_s if wanted.to_s is None else wanted.to_s
    samples = [
        sample
        for sample in evidence.samples
        if wanted.from_s + EDGE_S <= evidence.elapsed_s(sample) <= to_s - EDGE_S
    ]
    values = [value_of(sample.body, wanted.name) for sample in samples]
    given = [value for value in values if value is not None]
    texts = {repr(value) for value in given}
    numbers = [value for value in given if isinstance(value, int | float)]
    faults = []
    match wanted.state:
        case FieldState.PRESENT if len(given) < len(values) or not values:
            faults.append(f"absent from {len(values) - len(given)}")
        case FieldState.ABSENT if given:
            faults.append(f"present in {len(given)}")
        case FieldState.CONSTANT if len(texts) != 1 or len(given) < 2:
            faults.append(f"{len(texts)} values")
        case FieldState.CHANGING if len(texts) < 2:
            faults.append(f"{len(texts)} values")
    if wanted.min is not None and any(number < wanted.min for number in numbers):
        faults.append(f"down to {min(numbers):g}")
    if wanted.max is not None and any(number > wanted.max for number in numbers):
        faults.append(f"up to {max(numbers):g}")
    if (wanted.min is not None or wanted.max is not None) and not numbers:
        faults.append("no number")
    if not samples:
        faults.append("no sample was taken then")
    span = f"{min(numbers):g} to {max(numbers):g}" if numbers else f"{len(texts)} values"
    return Check(
        f"{wanted.name} from {wanted.from_s:g} to {to_s:g} s",
        not faults,
        " and ".join(_words(wanted)),
        f"{', '.join(faults) or 'so it is'} ({len(samples)} samples, {span})",
    )


def _words(wanted: FieldExpectation) -> Iterator[str]:
    if wanted.state is not None:
        yield wanted.state.value
    if wanted.min is not None:
        yield f"at least {wanted.min:g}"
    if wanted.max is not None:
        yield f"at most {wanted.max:g}"


def value_of(body: dict[str, Any], name: str) -> Any:
    """A field by its dotted name; None where it is absent."""
    value: Any = body
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _name(event: Message) -> str:
    code = event.body.get("details", {}).get("code")
    kind: str = event.body["event_type"]
    return f"{kind}:{code}" if code is not None else kind


def _is(name: str, wanted: str) -> bool:
    kind, _, code = name.partition(":")
    wanted_kind, _, wanted_code = wanted.partition(":")
    return kind == wanted_kind and fnmatchcase(code, f"{wanted_code}*")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"
