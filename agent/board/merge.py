"""How content goes into a file that is there. Pure, on bytes; other people's lines are kept.

``put`` gives the file with it, ``take_out`` the file without it, for one that somebody has
changed since. Putting twice is putting once. Bytes that are no UTF-8 come through unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from agent.board.render import How

BEGIN: Final = (
    "# >>> milepost board apply: these lines are its own, `milepost-agent board undo` removes them"
)
END: Final = "# <<< milepost board apply"


def put(how: How, content: str, before: bytes | None) -> bytes:
    """The file with ``content`` in it; ``before`` is ``None`` where there is none."""
    if how is How.WHOLE:
        return content.encode()
    text = _text(before)
    if how is How.BLOCK:
        rest = _without_block(text)
        gap = "" if not rest or rest.endswith("\n") else "\n"
        return _bytes(f"{rest}{gap}{BEGIN}\n{content}{END}\n")
    if how is How.VARIABLES:
        return _bytes(_with_variables(text, content))
    coming, going = _words(content)
    return _bytes(_with_words(text, coming, going))


def take_out(how: How, content: str, now: bytes, original: bytes | None) -> bytes | None:
    """The file without what ``put`` put there, the original's words in its place.

    ``None`` if nothing else is in it. For a file that somebody has changed since; whose whole
    file it was cannot be told apart.
    """
    text, before = _text(now), _text(original)
    if how is How.BLOCK:
        text = _without_block(text)
    elif how is How.VARIABLES:
        text = _with_variables_of(text, before, content)
    elif how is How.WORDS:
        coming, going = _words(content)
        had = before.split()
        text = _with_words(
            text,
            coming=[word for word in had if _name(word) in going],
            going={word for word in coming if word not in had},
        )
    return _bytes(text) if text else None


def _without_block(text: str) -> str:
    begin, end = re.escape(BEGIN), re.escape(END)
    # a mark that somebody left alone takes nothing with it
    block = rf"^{begin}\n(?:(?!{begin}$).*\n)*?{end}(?:\n|\Z)"
    return re.sub(block, "", text, flags=re.MULTILINE)


def _with_variables(text: str, content: str) -> str:
    for line in content.splitlines():
        found = list(_assignment(line).finditer(text))
        if found:
            # the last one counts in a shell
            text = text[: found[-1].start()] + line + text[found[-1].end() :]
        else:
            text += ("" if not text or text.endswith("\n") else "\n") + line + "\n"
    return text


def _with_variables_of(text: str, before: str, content: str) -> str:
    for line in content.splitlines():
        theirs = [match[0] for match in _assignment(line).finditer(before)]
        if theirs:
            text = _with_variables(text, theirs[-1].strip())
        else:
            text = re.sub(_assignment(line).pattern + r"\n?", "", text, flags=re.MULTILINE)
    return text


def _assignment(line: str) -> re.Pattern[str]:
    name = re.escape(line.partition("=")[0].removeprefix("export ").strip())
    return re.compile(rf"^[ \t]*(?:export[ \t]+)?{name}=.*$", re.MULTILINE)


def _with_words(text: str, coming: Sequence[str], going: Collection[str]) -> str:
    words = text.split()
    kept = [word for word in words if _name(word) not in going]
    new = [word for word in coming if word not in kept]
    if kept == words and not new:
        return text
    # the firmware takes one line
    return " ".join([*kept, *new]) + ("\n" if text.endswith("\n") else "")


def _words(content: str) -> tuple[list[str], set[str]]:
    lines = content.split()
    coming = [line.removeprefix("+") for line in lines if line.startswith("+")]
    return coming, {line.removeprefix("-") for line in lines if line.startswith("-")}


def _name(word: str) -> str:
    """``console=serial0`` of ``console=serial0,115200``."""
    return word.partition(",")[0]


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
