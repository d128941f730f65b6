"""The picture: an account in, something that rich draws out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.account import imbalance
from agent.watch import words
from agent.watch.rates import Rates

FRAME_ROWS: Final = 2
FAULT_ROWS: Final = 4
BUS_ROWS: Final = 3
TWO_COLUMNS_FROM: Final = 60

_MODES: Final = {"in_trip": "green", "normal": "cyan", "idle": "blue", "saver": "yellow"}

Rows = list[tuple[str, Text]]


def picture(
    account: Mapping[str, Any],
    rates: Rates | None,
    *,
    width: int,
    height: int | None,
    silent: str = "",
) -> RenderableType:
    """All of it; ``height`` ``None`` draws every row, else what does not fit is counted.

    ``silent`` says since when, and why, the agent did not answer.
    """
    left = [
        _panel("Drive", _drive(account, rates)),
        _panel("Delivery", _delivery(account, rates)),
        _panel("CAN", _buses(account, rates, height)),
    ]
    left_rows = sum(rows for _, rows in left)
    faults = _faults(account, silent)
    spare = None if height is None else height - 1 - left_rows - FRAME_ROWS
    faults = _cut(faults, None if spare is None else max(1, min(spare, FAULT_ROWS)))
    bottom, bottom_rows = _panel("Faults", faults)
    head = _head(account, width)
    signals = list(words.fields(account.get("last_sample") or {}))
    rows: Rows = [(name, Text(value)) for name, value in signals]
    if width < TWO_COLUMNS_FROM or height is None:
        everything, _ = _panel("Last sample", rows or [("", _dim("nothing mapped yet"))])
        return Group(head, *(panel for panel, _ in left), bottom, everything)
    body_rows = max(3, height - 1 - bottom_rows)
    rows = _cut(rows or [("", _dim("no signal yet"))], body_rows - FRAME_ROWS)
    layout = Layout()
    layout.split_column(
        Layout(head, size=1),
        Layout(name="body", size=body_rows),
        Layout(bottom, size=bottom_rows),
    )
    sides = Layout(name="left", ratio=11)
    rest = _events(account, body_rows - left_rows - FRAME_ROWS)
    sides.split_column(*(Layout(panel, size=rows) for panel, rows in left), Layout(rest))
    layout["body"].split_row(sides, Layout(_panel("Last sample", rows)[0], ratio=9))
    return layout


def _head(account: Mapping[str, Any], width: int) -> Text:
    sample = account.get("last_sample") or {}
    quality = account.get("time_quality", "")
    clock = f"{sample.get('timestamp', '')[:19].replace('T', ' ')} {quality}"
    name = f" {account['vehicle_id']}  up {words.duration(account['uptime_s'])}"
    version = f"  {account['software_version']}"
    if len(name) + len(version) + len(clock) + 3 <= width:
        name += version
    text = Text(f"{name}{clock:>{max(0, width - len(name) - 1)}} ", style="reverse", no_wrap=True)
    text.truncate(width)
    return text


def _drive(account: Mapping[str, Any], rates: Rates | None) -> Rows:
    mode = account.get("mode") or "unknown"
    text = Text(mode, style=_MODES.get(mode, ""))
    interval_s = account.get("sample_interval_s")
    if interval_s:
        text.append(f", a sample every {interval_s:g} s")
    rows: Rows = [("mode", text)]
    if account.get("limited_by"):
        limit = f"{account['limited_by']} budget; else {account['wanted_mode']}"
        rows.append(("limited", Text(limit, style="yellow")))
    sample = account.get("last_sample") or {}
    location = sample.get("location")
    if location is None:
        rows.append(("position", Text("unknown", style="yellow")))
    else:
        rows.append(("position", Text(f"{location['lat']:.5f} {location['lon']:.5f}")))
    rows.append(("fix", _fix(sample, location or {})))
    rejected = sum(account.get("fixes_rejected", {}).values())
    per_s = f"{rates.fixes_per_s:.1f}/s, " if rates else ""
    told = f"{per_s}{account.get('fixes_received', 0)} in all, {rejected} rejected"
    rows.append(("fixes", Text(told)))
    return rows


def _fix(sample: Mapping[str, Any], location: Mapping[str, Any]) -> Text:
    parts = [str(location["fix_mode"]).upper()] if location.get("fix_mode") else []
    if location.get("satellites") is not None:
        parts.append(f"{location['satellites']} sats")
    if location.get("accuracy") is not None:
        parts.append(f"±{location['accuracy']:.1f} m")
    age_s = words.fix_age_s(sample)
    if age_s is not None:
        parts.append(f"{max(0.0, age_s):.1f} s old")
    return Text(", ".join(parts) or "none", style="" if parts else "yellow")


def _delivery(account: Mapping[str, Any], rates: Rates | None) -> Rows:
    link = Text("connected", style="green")
    if not account["connected"]:
        link = Text("not connected", style="red")
    if rates:
        link.append(f", {words.size(rates.bytes_per_s)}/s", style="default")
    created = account.get("samples_created", 0) + account.get("events_created", 0)
    sent = sum(
        account.get(f"{kind}_acknowledged", 0) for kind in ("samples", "events", "inherited")
    )
    waiting = account["backlog_messages"]
    outbox = Text(f"{waiting} waiting", style="yellow" if waiting > 100 else "")
    if rates and (waiting or rates.acknowledged_per_s):
        outbox.append(f", {rates.acknowledged_per_s:.1f}/s go", style="default")
    dropped = account["dropped_messages"]
    lost = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    rows: Rows = [
        ("link", link),
        ("outbox", outbox),
        ("created", Text(f"{created}, acknowledged {sent}")),
        ("dropped", Text(lost or "none", style="red" if lost else "")),
    ]
    missing = imbalance(account) if "inherited_messages" in account else 0
    if missing:
        rows.append(("MISSING", Text(f"{missing} messages: see the log", style="bold red")))
    budgets = account.get("budgets")
    if budgets:
        rows.append(("budgets", _budgets(budgets)))
    return rows


def _budgets(budgets: Mapping[str, Any]) -> Text:
    text = Text()
    for name in ("data", "flash"):
        used, cap = budgets[name]["used_bytes"], budgets[name]["cap_bytes"]
        if used is None:
            continue
        told = words.size(used) + (f" {100 * used / cap:.0f} %" if cap and 10 * used > cap else "")
        style = "yellow" if budgets[name]["stage"] != "within" else ""
        text.append(f"{', ' if text else ''}{name} ")
        text.append(told, style=style)
    return text or Text("not measured here")


def _buses(account: Mapping[str, Any], rates: Rates | None, height: int | None) -> Rows:
    rows: Rows = [(bus["channel"], _bus(bus, rates)) for bus in account.get("can", ())]
    rows += [(f"OBD {one['channel']}", _asked(one)) for one in account.get("obd", ())]
    rows += [(f"J1939 {one['channel']}", _heard(one)) for one in account.get("j1939", ())]
    rows = rows or [("", _dim("no bus in the config"))]
    return _cut(rows, None if height is None else BUS_ROWS)


def _bus(bus: Mapping[str, Any], rates: Rates | None) -> Text:
    rate = rates.buses.get(bus["channel"]) if rates else None
    text = Text(f"{rate.frames_per_s:.0f} frames/s" if rate else f"{bus['frames']} frames")
    if bus.get("state") not in {None, "error-active"}:
        text = Text(bus["state"], style="red")
    dropped = bus.get("kernel_dropped", 0) + bus.get("controller_overflows", 0)
    text.append(f", {dropped} dropped", style="yellow" if dropped else "")
    if bus["dropped"]:
        text.append(f", {bus['dropped']} bad", style="yellow")
    return text


def _asked(obd: Mapping[str, Any]) -> Text:
    ecus = ", ".join(obd["ecus"]) or "no ECU yet"
    state = obd["state"] if obd["ecus"] else f"{obd['state']} ({obd['reason']})"
    return Text(f"{state}, {ecus}, {obd['answered']} of {obd['requests']} answered")


def _heard(j1939: Mapping[str, Any]) -> Text:
    return Text(f"{j1939['frames']} frames, faults of {len(j1939['telling_faults'])} ECUs")


def _events(account: Mapping[str, Any], limit: int) -> RenderableType:
    """The newest first, in what room there is."""
    events = list(account.get("events", ()))[::-1][: max(0, limit)]
    if not events:
        return Text(" ")
    told = [(event["timestamp"][11:19], Text(_event(event))) for event in events]
    return _panel("Events", told)[0]


def _event(event: Mapping[str, Any]) -> str:
    details = event.get("details") or {}
    what = details.get("to") or details.get("code") or details.get("reason")
    return f"{event['event_type']}: {what}" if what else str(event["event_type"])


def _faults(account: Mapping[str, Any], silent: str) -> Rows:
    rows: Rows = [("", Text(silent, style="bold red"))] if silent else []
    for fault in account.get("faults", ()):
        told = words.duration(fault["lasts_s"])
        reason = f": {fault['reason']}" if fault["reason"] else ""
        rows.append((told, Text(f"{fault['code'].removeprefix('source:')}{reason}", style="red")))
    return rows or [("", Text("none", style="green"))]


def _cut(rows: Rows, limit: int | None) -> Rows:
    """What does not fit is counted in the last row."""
    if limit is None or len(rows) <= limit:
        return rows
    kept = rows[: max(0, limit - 1)]
    return [*kept, ("", _dim(f"… and {len(rows) - len(kept)} more"))]


def _dim(text: str) -> Text:
    return Text(text, style="dim")


def _panel(title: str, rows: Sequence[tuple[str, Text]]) -> tuple[Panel, int]:
    """The panel, and how many rows it takes with its frame."""
    table = Table.grid(padding=(0, 1), expand=True)
    if any(name for name, _ in rows):
        table.add_column(style="dim", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for name, text in rows:
            table.add_row(name, text)
    else:
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for _, text in rows:
            table.add_row(text)
    return Panel(table, title=title, title_align="left"), len(rows) + FRAME_ROWS
