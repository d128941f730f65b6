"""What was asked for and accepted, kept in the state directory.

So a vehicle that starts without a network starts with the settings that it had. The
config file is never written.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.files import write_atomically

FILE_NAME: Final = "shadow.json"
_FORMAT: Final = 1

_log = logging.getLogger("agent.shadow")


@dataclass(frozen=True, slots=True)
class Record:
    """``desired`` as the cloud had it at ``version``, and what of it is in force.

    A text is the reason why what it had was refused as a whole.
    """

    desired: Any = field(default_factory=dict)
    version: int = 0
    """The shadow's version when this was first seen; 0 while nothing was."""
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)


def load(folder: Path) -> Record:
    """The record; an empty one where there is none. A damaged file is set aside."""
    path = folder / FILE_NAME
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return Record()
    except OSError as error:
        _log.warning("%s cannot be read, the config file's settings are used: %s", path, error)
        return Record()
    except (ValueError, RecursionError) as error:
        kept = path.with_name(path.name + ".damaged")
        _log.warning("%s is damaged, the config file's settings are used: %s", path, error)
        try:
            path.replace(kept)
        except OSError as problem:
            _log.warning("%s cannot be set aside: %s", path, problem)
        else:
            _log.warning("it is kept as %s", kept)
        return Record()


def save(folder: Path, record: Record) -> None:
    """Replace the record.

    Raises:
        OSError: it could not be written; the old one stays.
    """
    document = {
        "format": _FORMAT,
        "desired": record.desired,
        "version": record.version,
        "accepted": record.accepted,
    }
    write_atomically(folder / FILE_NAME, json.dumps(document).encode())


def _parsed(data: bytes) -> Record:
    document = json.loads(data)
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise ValueError(f"is not of format {_FORMAT}")
    if document.keys() != {"desired", "version", "accepted"}:
        raise ValueError("has other keys than it should")
    record = Record(**document)
    if type(record.version) is not int or not isinstance(record.accepted, dict):
        raise ValueError("version or accepted is of a wrong type")
    if not all(isinstance(patch, dict) for patch in record.accepted.values()):
        raise ValueError("accepted holds something that is no section")
    return record
