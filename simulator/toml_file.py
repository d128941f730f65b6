"""Files that a person writes for the simulator: TOML, checked key by key."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from simulator.errors import FileError


class Table(BaseModel):
    """One table of such a file: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


File = TypeVar("File", bound=Table)


def load(path: Path, model: type[File]) -> File:
    """Read and check a file.

    Raises:
        FileError: it cannot be read, is no TOML, or keys or values are wrong; one line a
            fault, each with file, key and value.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}", hint="check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(
            f"{path}: {error}", hint="text values need quotes; see https://toml.io"
        ) from None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise FileError(
            "\n".join(f"{path}: {_fault(fault, model)}" for fault in faults),
            hint="docs/simulator.md has every key",
        ) from None


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> str:
    where = _key(fault["loc"])
    if fault["type"] == "missing":
        return f"{where}: is required and missing"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(fault["loc"][-1]), _all_keys(model), n=1)
        return f"{where}: unknown key" + (f'; did you mean "{near[0]}"?' if near else "")
    reason = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = fault["input"]
    if isinstance(value, dict | list | tuple | BaseModel):
        return f"{where or 'file'}: {reason}"
    return f"{where} = {value!r}: {reason}"


def _key(location: tuple[str | int, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _all_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a model and of all that are in it, for a guess at a mistyped one."""
    keys: dict[str, None] = {}
    schema: dict[str, Any] = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        keys.update(dict.fromkeys(part.get("properties", ())))
    return list(keys)
