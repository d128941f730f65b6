"""Write the reference of scenario and vehicle files into docs/simulator.md.

``python -m simulator.scenario.reference docs/simulator.md`` replaces what stands between the
two marks. The descriptions in the models are the only place where a key is explained.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel

from simulator.scenario.faults import FAULTS
from simulator.scenario.model import Scenario
from simulator.synth.vehicle_file import QUANTITIES, Source, VehicleProfile

BEGIN: Final = "<!-- written by `make schema` from the models; edit the descriptions there -->\n"
END: Final = "<!-- end of what is written -->\n"


def reference() -> str:
    """What stands between the marks, Markdown."""
    parts = [
        "## The faults",
        _table(("name", "what it does"), [(f"`{n.value}`", k.does) for n, k in FAULTS.items()]),
        "## The scenario file",
        *_sections("", Scenario, "Outside of any section."),
        "## The vehicle file",
        *_sections("", VehicleProfile, "Outside of any section."),
        "### `SIGNAL = { … }` in `signals`",
        _keys(Source),
        "The drive's quantities, with their units in their names: "
        + ", ".join(f"`{name}`" for name in QUANTITIES)
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def page(text: str) -> str:
    """The page with its reference renewed.

    Raises:
        ValueError: it has not both marks.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has not both marks: {BEGIN.strip()} and {END.strip()}")
    return f"{head}{BEGIN}\n{reference()}\n{END}{tail}"


def _sections(name: str, model: type[BaseModel], doc: str) -> Iterator[str]:
    """One section, then those within it, as they are written in TOML."""
    if name:
        yield f"### `{name}`"
    yield (doc if not name else _doc(model))
    yield _keys(model)
    for key, field in model.model_fields.items():
        inner, many, by_name = _model_in(field.annotation)
        if inner is None or inner is Source:
            continue
        path = f"{name.strip('[]')}.{key}" if name else key
        path += ".NAME" if by_name else ""
        yield from _sections(f"[[{path}]]" if many else f"[{path}]", inner, "")


def _keys(model: type[BaseModel]) -> str:
    rows = [
        (f"`{key}`", field.description or "")
        for key, field in model.model_fields.items()
        if _model_in(field.annotation)[0] in (None, Source)
    ]
    return _table(("key", "meaning"), rows)


def _doc(model: type[BaseModel]) -> str:
    """The docstring without the section's name, which is the heading."""
    text = (model.__doc__ or "").strip()
    _, colon, rest = text.partition(": ") if text.startswith("``[") else ("", "", "")
    lines = (rest if colon else text).splitlines()
    joined = "\n".join(line.strip() for line in lines)
    return joined[:1].upper() + joined[1:]


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, bool, bool]:
    """The model that a key holds; whether it holds many of it; whether they have names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False, False
    for inner in get_args(annotation):
        found, _, by_name = _model_in(inner)
        if found is not None:
            origin = getattr(annotation, "__origin__", None)
            return found, origin is tuple, by_name or origin is dict
    return None, False, False


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {left} | {right} |" for left, right in rows]
    return "\n".join(lines)


def main() -> None:
    """Renew the page that is named."""
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
