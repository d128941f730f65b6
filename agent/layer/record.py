"""The layer in the state directory: what is laid over the config file, and what is on trial.

One file, replaced as a whole, so that a power cut leaves the state before or after.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.errors import StateError
from agent.files import write_atomically

FILE_NAME: Final = "config-layer.json"
_FORMAT: Final = 1

_log = logging.getLogger("agent.layer")


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings as a config table, and the job that brought them."""

    settings: dict[str, Any] = field(default_factory=dict)
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept."""

    layer: Layer = field(default_factory=Layer)
    """Proven; in force unless another one is on trial."""
    trial: Layer | None = None
    starts: int = 0
    """Processes that have begun with the trial."""
    failed_job: str = ""
    """The job whose trial was rolled back last, and why."""
    failure: str = ""


def load(folder: Path, *, mends: bool = False) -> Record:
    """The record; an empty one where there is none. ``mends``: a damaged file is set aside."""
    path = folder / FILE_NAME
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return Record()
    except OSError as error:
        _log.warning("%s cannot be read, the config file alone counts: %s", path, error)
    except (ValueError, TypeError, RecursionError) as error:
        _log.warning("%s is damaged, the config file alone counts: %s", path, error)
        try:
            if mends:
                path.replace(path.with_name(path.name + ".damaged"))
        except OSError as problem:
            _log.warning("%s cannot be set aside: %s", path, problem)
    return Record()


def save(folder: Path, record: Record) -> None:
    """Replace the record.

    Raises:
        StateError: it could not be written; the old one stays.
    """
    try:
        data = json.dumps({"format": _FORMAT, **asdict(record)}, allow_nan=False)
        write_atomically(folder / FILE_NAME, data.encode())
    except (OSError, ValueError, TypeError) as error:
        raise StateError(
            f"{folder / FILE_NAME} cannot be written: {error}",
            hint="Is the disk full or read-only? `milepost-agent doctor` looks.",
        ) from error


def _parsed(data: bytes) -> Record:
    document = json.loads(data)
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise ValueError(f"is not of format {_FORMAT}")
    trial = document.pop("trial", None)
    record = Record(
        layer=_layer(document.pop("layer", None)),
        trial=None if trial is None else _layer(trial),
        **document,
    )
    texts = (record.failed_job, record.failure)
    if type(record.starts) is not int or not all(isinstance(one, str) for one in texts):
        raise ValueError("has values of wrong types")
    return record


def _layer(document: object) -> Layer:
    if not isinstance(document, dict):
        raise TypeError("has no layer")
    layer = Layer(**document)
    if not isinstance(layer.settings, dict) or not isinstance(layer.job_id, str):
        raise TypeError("has values of wrong types")
    return layer
