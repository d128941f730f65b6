"""Write the reference of all config keys: ``python -m agent.config.reference FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.config.load import AgentSettings
from agent.config.sources import FIELDS, SIGNALS_PREFIX, CanSettings, SignalSettings

_HEAD = """# The agent's config file

One TOML file, named with `--config` (default `/etc/milepost/agent.toml`). Unknown keys are
refused. Relative paths are taken from the file's folder. Check it with
`milepost-agent check-config --config FILE`. This page is made from the code by
`python -m agent.config.reference docs/configuration.md`.
"""


def reference() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for title, model in _sections(AgentSettings, ""):
        rows = [
            f"| `{name}` | {_description(field)} |"
            for name, field in model.model_fields.items()
            if _inner(field) is None
        ]
        if rows:
            purpose = (model.__doc__ or "").strip().splitlines()[0].rpartition("``: ")[2]
            heading = f"## `{title}`\n\n{purpose[:1].upper()}{purpose[1:]}\n"
            parts.append("\n".join([heading, "| key | meaning |", "|---|---|", *rows, ""]))
    fields = ", ".join(f"`{name}`" for name in FIELDS)
    parts.append(
        "## What a CAN signal may be mapped to\n\n"
        f"{fields}, and `{SIGNALS_PREFIX}<name>` for anything else.\n"
    )
    return "\n".join(parts)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = _inner(field)
        if inner is None:
            continue
        if inner is CanSettings:
            yield "[[can]]", inner
            yield '"field" = { … } in [can.signals]', SignalSettings
        else:
            yield f"[{prefix}{name}]", inner
            yield from _sections(inner, f"{prefix}{name}.")


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _description(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
