"""Write a bundle: everything redacted, everything bounded, a list of it in front."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.diagnostics.parts import Part, Scene
from agent.diagnostics.redact import redact_text, redact_tree
from agent.errors import StateError

MAX_PART_BYTES: Final = 2_000_000
MAX_BUNDLE_BYTES: Final = 12_000_000
"""Before compression, which leaves about a tenth."""
MANIFEST: Final = "README.txt"
FOLDER: Final = "milepost-diagnostics"

_HEAD: Final = """\
Milepost diagnostics of {vehicle}

Secrets, keys, tokens, passwords and the paths of keys are taken out; [redacted] stands in
their places. Look for yourself before you pass it on: these are text files.

"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the bundle; ``note`` says what is not as usual with it."""

    part: Part
    content: bytes
    note: str = ""


def collect(
    scene: Scene,
    parts: Sequence[Part],
    known: Mapping[str, str],
    tell: Callable[[Part], None] = lambda _: None,
) -> list[Entry]:
    """All parts, redacted and bounded; ``tell`` is given each one before it is collected."""
    entries: list[Entry] = []
    left = MAX_BUNDLE_BYTES
    for part in parts:
        tell(part)
        entry = _collected(scene, part, known, min(left, MAX_PART_BYTES))
        entries.append(entry)
        left -= len(entry.content)
    return entries


def write(path: Path, entries: Sequence[Entry], vehicle: str) -> None:
    """A ``.tar.gz``, readable for its owner alone.

    Raises:
        StateError: it cannot be written, or is there already.
    """
    manifest = (_HEAD.format(vehicle=vehicle) + "\n".join(listing(entries)) + "\n").encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with (
            os.fdopen(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive,
        ):
            _add(archive, MANIFEST, manifest)
            for entry in entries:
                _add(archive, entry.part.name, entry.content)
    except FileExistsError:
        raise StateError(f"{path} is there already", hint="Name another file by --out.") from None
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StateError(
            f"{path} cannot be written: {error.strerror}", hint="Name another file by --out."
        ) from error


def listing(entries: Sequence[Entry]) -> Iterator[str]:
    """For people: each file, its size, what it is."""
    for entry in entries:
        note = f" ({entry.note})" if entry.note else ""
        yield f"{entry.part.name:<16}{len(entry.content):>10}  {entry.part.about}{note}"


def _collected(scene: Scene, part: Part, known: Mapping[str, str], most: int) -> Entry:
    try:
        value = part.collect(scene)
        text = _as_text(part, value, known)
    except Exception as error:  # noqa: BLE001  one part's fault must not hide the others
        reason = redact_text(str(error).partition("\n")[0] or type(error).__name__, known)
        return Entry(part, b"", note=f"could not be had: {reason}")
    content = text.encode("utf-8", "replace")
    if len(content) <= most:
        return Entry(part, content)
    # the end is the latest; what is cut in two is cut at a line's end
    kept = content[len(content) - most :].partition(b"\n")[2]
    return Entry(part, kept, note=f"its last {len(kept)} of {len(content)} bytes")


def _as_text(part: Part, value: Any, known: Mapping[str, str]) -> str:
    if part.name.endswith(".json"):
        return json.dumps(redact_tree(value, known), indent=1, default=str) + "\n"
    return redact_text("".join(value), known)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"{FOLDER}/{name}")
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))
