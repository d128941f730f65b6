"""Write ``docs/modes.md`` from the table of modes: ``python -m agent.engine.modes_page FILE``.

The table, its guards' docstrings and the settings' defaults are the only places where a
transition is explained; a test fails when the page, or the table in the docstring of
:mod:`agent.engine.modes`, says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from agent.budgets import Stage
from agent.budgets.table import TABLE as BUDGET_TABLE
from agent.config import SamplingSettings, ThresholdSettings
from agent.engine.modes import FIRST, QUIET, TABLE, Guard, Row
from contract import Mode

_HEAD: Final = """\
# Sampling modes

Written from `agent/engine/modes.py` by `make schema`; edit the table and its guards there.

The mode decides how often a sample is taken. A vehicle is in one of four; which one comes next
depends on its speed, on whether it says that it is in use, and on its battery.
"""

_RULES: Final = """\
A row fires when its guard has held without a break for the dwell, counted from when it began to
hold or from when the `from` mode was entered, whichever is later. Within one mode the first row
that is due fires. Enter and leave thresholds differ, so a reading at a threshold cannot make modes
flap; the config refuses thresholds without a band between them.

What is unknown is not assumed: an unknown speed neither begins a trip nor parks a vehicle, and a
battery of unknown level is neither full nor empty; so it ends `idle`, unless
`idle_when_battery_unknown` is "idle" and it counts as full. Three exceptions: a trip without a
known speed ends after `trip_blind_dwell_s`, a vehicle that does not say whether it is in use counts
as not in use, and a battery of unknown charging state as not charging.
"""

_SPEED: Final = """\
## The speed that counts

CAN's speed (`motion.speed_kmh`) where it is mapped and fresh, else that of GPS, else what the
positions of the last 3 s say. A receiver that stands says one or two km/h, now and then more, and
its position wanders; so without a speed from CAN the speed is 0 from when the vehicle was found to
stand until there is evidence that it moves: speeds of 3 km/h or more, fix after fix, that add up to
8 m, and a position that went at least half as far. That costs a trip one to four seconds at its
begin, and a parked vehicle stays parked. Until then the position is held where the vehicle stopped,
with the time of the fix that confirms it
(`position.standing`, [decision 0032](decisions/0032-a-vehicle-that-stands-is-held.md)).
"""

_EVENTS: Final = """\
## Events

| event | when | details |
|---|---|---|
| `mode_changed` | the mode in force changed | `from`, `to`, `reason`; `wanted` under a budget |
| `trip_started` | `in_trip` is entered | `reason` |
| `trip_ended` | `in_trip` is left; `reason` `restart`: at a start, too late for it to go on | \
`reason`, `duration_s`, `distance_km`, `distance_source` (`can`: the odometer, else `gps`) |
| `battery_low`, `battery_recovered` | below `battery_low_percent` and not charging; above \
`battery_recovered_percent`; in turn, over restarts too, each held for `battery_dwell_s` | \
`percent` |
| `harsh_braking`, `harsh_acceleration` | above `harsh_braking_mps2`, `harsh_acceleration_mps2`; \
once each | `deceleration_mps2` or `acceleration_mps2`, `speed_kmh`, `source` (`can_acceleration`, \
`can_speed`, `gps_speed`) |

A trip keeps its id when the agent restarts in its middle: after a crash or a power cut up to a day
after its begin, after an orderly stop within `trip_resume_s`. `harsh_…` come from CAN's
acceleration along the vehicle where it is mapped, else from the speed; a single wrong measurement
is neither (`agent/engine/harsh.py`).
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD, _diagram(), _transitions(), _RULES, _guards(), _rates(), _budgets()]
    return "\n".join([*parts, _SPEED, _EVENTS])


def docstring_table() -> str:
    """The table as it stands in the docstring of ``agent.engine.modes``, reStructuredText."""
    rows = [
        (source, row.target.value, name_of(row.guard), _held(row, "``", "at once"))
        for source, row in _rows_by_source()
    ]
    return _rest_table(("from", "to", "when", "held for"), rows)


def name_of(guard: Guard) -> str:
    """A guard's name for people."""
    return guard.__name__.strip("_").replace("_", " ")


def _rows_by_source() -> Iterator[tuple[str, Row]]:
    """The table's rows; those that every quiet mode has are one."""
    for _, group in groupby(TABLE, key=lambda row: (row.target, row.guard, row.dwell)):
        rows = list(group)
        if tuple(row.source for row in rows) == QUIET:
            yield "any other", rows[0]
        else:
            yield from ((row.source.value, row) for row in rows)


def _diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {FIRST.value}"]
    pairs: dict[tuple[Mode, Mode], list[str]] = {}
    for row in TABLE:
        label = name_of(row.guard)
        if row.dwell is not None:
            label += f" {_default_s(row.dwell)}"
        pairs.setdefault((row.source, row.target), []).append(label)
    lines += [
        f"    {source.value} --> {target.value} : {' or '.join(labels)}"
        for (source, target), labels in pairs.items()
    ]
    return "\n".join([*lines, "```", ""])


def _transitions() -> str:
    rows = [
        (
            source,
            f"`{row.target.value}`",
            name_of(row.guard),
            _held(row, "`", "at once") + (f", {_default_s(row.dwell)}" if row.dwell else ""),
            f"`{row.reason}`",
        )
        for source, row in _rows_by_source()
    ]
    return "## Transitions\n\n" + _markdown(("from", "to", "when", "held for", "reason"), rows)


def _guards() -> str:
    guards = dict.fromkeys(row.guard for row in TABLE)
    rows = [(name_of(guard), " ".join((guard.__doc__ or "").split())) for guard in guards]
    keys = [
        (f"`{name}`", f"{field.default:g}" if isinstance(field.default, float) else field.default)
        for name, field in ThresholdSettings.model_fields.items()
        if any(f"`{name}`" in (guard.__doc__ or "") for guard in guards)
    ]
    return (
        _markdown(("when", "means"), rows)
        + "\n"
        + _markdown(("in `[sampling.thresholds]`", "default"), keys)
    )


def _rates() -> str:
    settings = SamplingSettings()
    rows = [
        (
            f"`{mode.value}`",
            f"`sampling.{mode.value}.interval_s`",
            f"{settings.interval_s(mode):g} s",
        )
        for mode in Mode
    ]
    return "## Rates\n\n" + _markdown(("mode", "key", "default"), rows)


def _budgets() -> str:
    rows = [
        (budget.value, stage.name.lower(), f"`{measures.ceiling.value}`")
        for (budget, stage), measures in BUDGET_TABLE.items()
        if measures.ceiling is not None and stage is not Stage.WITHIN
    ]
    return (
        "A day's budget that is nearly or wholly used lowers the rate to at most that of another "
        "mode,\nand never raises it; trips begin and end as without it ([budgets](budgets.md)).\n\n"
        + _markdown(("budget", "used", "rate at most that of"), rows)
    )


def _held(row: Row, quote: str, at_once: str) -> str:
    return f"{quote}{row.dwell}{quote}" if row.dwell else at_once


def _default_s(dwell: str) -> str:
    return f"{ThresholdSettings.model_fields[dwell].default:g} s"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    lines[1] = "|" + "---|" * len(heads)
    return "\n".join(lines) + "\n"


def _rest_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (heads, *rows)
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/modes.md")
    path.write_text(page(), encoding="utf-8")
