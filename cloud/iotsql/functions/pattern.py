r"""Regular expressions.

AWS uses Java's. Python's are the same for what rules need; ``re.ASCII`` gives ``\d``,
``\w`` and ``\s`` Java's meaning. What Python cannot compile (``\p{Alpha}``) is Undefined
here, like an invalid expression on AWS.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Final

from cloud.iotsql.functions.registry import Function, on_texts
from cloud.iotsql.values import UNDEFINED, Value


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        with warnings.catch_warnings():
            # "[[" warns in Python; in Java it is a set within a set, so it is not the same
            warnings.simplefilter("error", FutureWarning)
            return re.compile(pattern, re.ASCII)
    except (re.error, FutureWarning, OverflowError, RecursionError, ValueError):
        return None


def matches(text: str, pattern: str) -> Value:
    """Whether the text contains a match."""
    compiled = _compiled(pattern)
    return UNDEFINED if compiled is None else compiled.search(text) is not None


def first_match(text: str, pattern: str) -> Value:
    """The first match; Undefined when there is none."""
    compiled = _compiled(pattern)
    found = compiled.search(text) if compiled else None
    return UNDEFINED if found is None else found.group()


def replace_matches(text: str, pattern: str, replacement: str) -> Value:
    """Replace every match; ``$1`` is a group, a backslash takes the next character as it is."""
    compiled = _compiled(pattern)
    parts = None if compiled is None else _replacement(replacement, compiled)
    if compiled is None or parts is None:
        return UNDEFINED
    return compiled.sub(
        lambda found: "".join(
            (found.group(part) or "") if type(part) is int else str(part) for part in parts
        ),
        text,
    )


def _replacement(text: str, compiled: re.Pattern[str]) -> list[str | int] | None:
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        mark, following = text[position], text[position + 1 : position + 2]
        if mark == "\\":
            if not following:
                return None
            parts.append(following)
            position += 2
        elif mark == "$":
            group, position = _group(text, position + 1, compiled)
            if group is None:
                return None
            parts.append(group)
        else:
            parts.append(mark)
            position += 1
    return parts


def _group(text: str, position: int, compiled: re.Pattern[str]) -> tuple[int | None, int]:
    """As many digits as still name a group, at least one (java.util.regex.Matcher)."""
    if text[position : position + 1] == "{":
        end = text.find("}", position)
        return compiled.groupindex.get(text[position + 1 : end]) if end > 0 else None, end + 1
    group: int | None = None
    while position < len(text) and text[position] in "0123456789":
        longer = (group or 0) * 10 + int(text[position])
        if longer > compiled.groups:
            break
        group = longer
        position += 1
    return group, position


PATTERN: Final[dict[str, Function]] = {
    "regexp_matches": on_texts(matches),
    "regexp_replace": on_texts(replace_matches),
    "regexp_substr": on_texts(first_match),
}
