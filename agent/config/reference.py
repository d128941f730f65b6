"""Write ``docs/configuration.md`` from the settings: ``python -m agent.config.reference FILE``.

The descriptions in the models are the only place where a key is explained.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from agent.config.can import FIELD_UNITS, FIELDS, SignalSettings
from agent.config.live import LEAST, LIVE
from agent.config.load import AgentSettings
from agent.config.obd import PidSettings

_HEAD: Final = """\
# Configuration

Written from the agent's settings by `make schema`; edit the descriptions there.

One TOML file, `/etc/milepost/agent.toml` unless `--config` names another. The agent reads it once,
never writes it, and refuses unknown keys and wrong types with the key's name.
`milepost-agent check-config --config FILE` does the same without running, and checks the DBC files
and certificates too. Files are relative to the config file.

Keys marked **live** may also be changed while the agent runs, by the vehicle's shadow
([shadow.md](shadow.md)); what the shadow asks for counts before this file.
"""


def text() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    parts += [_section(header, doc, model) for header, doc, model in _sections(AgentSettings, ())]
    parts.append(_section('"<field>" = { … } in [can.signals]', "", SignalSettings))
    parts.append(_section('"<field>" = { … } in [obd.pids]', "", PidSettings))
    fields = "\n".join(
        f"| `{name}` | {kind.value} | {FIELD_UNITS.get(name, '')} |"
        for name, kind in FIELDS.items()
    )
    parts.append(
        "## Fields that a CAN signal may fill\n\n| field | takes | unit |\n|---|---|---|\n"
        + fields
        + "\n| `signals.<name>` | any | |\n"
    )
    return "\n".join(part for part in parts if part)


def _sections(
    model: type[BaseModel], path: tuple[str, ...]
) -> Iterator[tuple[str, str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None or inner is SignalSettings:
            continue
        here = (*path, name)
        dotted = ".".join(here)
        header = f"[[{dotted}]]" if get_origin(field.annotation) is tuple else f"[{dotted}]"
        yield header, field.description or "", inner
        yield from _sections(inner, here)


def _section(header: str, doc: str, model: type[BaseModel]) -> str:
    keys = [
        f"| `{name}` | {(field.description or '').replace('|', chr(92) + '|')}"
        f"{_live(f'{header[1:-1]}.{name}')} |"
        for name, field in model.model_fields.items()
        if _model_in(field.annotation) in {None, SignalSettings}
    ]
    if not keys:  # a table that holds only tables
        return ""
    doc = f"{doc}\n\n" if doc else ""
    return f"## `{header}`\n\n{doc}| key | meaning |\n|---|---|\n" + "\n".join(keys) + "\n"


def _live(key: str) -> str:
    if key not in LIVE:
        return ""
    return f" **live**, at least {LEAST[key]:g}" if key in LEAST else " **live**"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {tuple, UnionType}:
        return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
    return None


if __name__ == "__main__":
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/configuration.md")
    page.write_text(text(), encoding="utf-8")
