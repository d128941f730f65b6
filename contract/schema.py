"""Export the contract as JSON Schema: ``python -m contract.schema docs/schema``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from contract.messages import Event, Sample, Status

MODELS: Final[dict[str, type[BaseModel]]] = {"telemetry": Sample, "event": Event, "status": Status}


def schema_text(name: str) -> str:
    """The JSON Schema (2020-12) of one message, as the committed file holds it."""
    schema = MODELS[name].model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def export(folder: Path) -> list[Path]:
    """Write one ``<name>.schema.json`` per message; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in MODELS:
        path = folder / f"{name}.schema.json"
        path.write_text(schema_text(name), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for file in export(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schema")):
        print(file)
