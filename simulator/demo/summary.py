"""The report in a few lines, and where everything is."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from simulator.demo.report import total_lost, total_waiting

Json = dict[str, Any]

HEAD: Final = (
    "vehicle",
    "fixes",
    "created",
    "acknowledged",
    "stored",
    "lost",
    "twice",
    "kB sent",
    "kB flash",
)


def summary_lines(report: Json, report_path: Path, folder: Path) -> list[str]:
    """What a person wants to know at the end."""
    lines = ["", *_table(report["vehicles"]), ""]
    latency = report["latency_ms"]
    if latency["p50"] is not None:
        lines.append(
            "latency   "
            + ", ".join(f"{name} {latency[name]:.0f} ms" for name in ("p50", "p95", "p99"))
        )
    open_alerts = [alert for alert in report["alerts"] if alert["resolved_at"] is None]
    lines.append(f"alerts    {len(report['alerts'])}, of which {len(open_alerts)} open at the end")
    lines.append(f"archive   {report['archive_rows']:,} rows of Parquet")
    lines.append(f"report    {report_path}")
    lines.append(f"logs      {folder / 'logs'}")
    data, first = shlex.quote(str(folder / "cloud")), report["vehicles"][0]["vehicle_id"]
    lines.append(f"history   {_command('milepost-cloud')} history --data {data} --vehicle {first}")
    lost, waiting = total_lost(report), total_waiting(report)
    if waiting:
        lines.append(
            f"{waiting:,} samples wait in the outboxes under {folder / 'vehicles'}; "
            "they were not delivered in time and are not lost"
        )
    lines.append(f"{lost:,} SAMPLES WERE LOST" if lost else "no sample was lost")
    return lines


def _command(name: str) -> str:
    """As it must be typed here: by its path where the virtual environment is not active."""
    found = shutil.which(name)
    beside = Path(sys.argv[0]).absolute().parent / name
    if found is not None or not beside.is_file():
        return name
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _table(vehicles: list[Json]) -> list[str]:
    rows = [HEAD]
    for one in vehicles:
        figures = (
            one["fixes_replayed"],
            one["samples_created"],
            one["samples_acknowledged"],
            one["samples_stored"],
            one["samples_lost"],
            one["samples_duplicated"],
            round(one["bytes_published"] / 1000),
            round((one["flash_bytes_written"] or 0) / 1000),
        )
        rows.append((one["vehicle_id"], *(f"{figure:,}" for figure in figures)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
