"""What the commands share: options, and how they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

PROGRAM: Final = "milepost-cloud"
DATA = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("milepost-data"),
    show_default=True,
    help="Data directory of the one-machine cloud.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2))


def print_table(rows: list[dict[str, Any]], empty: str) -> None:
    """Print rows for people below their keys; ``empty`` where there is none."""
    if not rows:
        print(empty)
        return
    texts = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(rows[0]))]
    for line in texts:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
