"""Topic filters, as the FROM clause has them.

``+`` is one level, ``#`` any number of levels at the end, its parent included; a
wildcard at the first level does not see topics that begin with ``$`` (MQTT 3.1.1,
sections 4.7.1 and 4.7.2). Limits: AWS IoT Core quotas, message broker.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from contract.topics import strip_basic_ingest

MAX_TOPIC_BYTES: Final = 256
MAX_SLASHES: Final = 7

_BASIC_INGEST: Final = re.compile(r"\$aws/rules/([A-Za-z0-9_]{1,128})/.")


def problem_with(topic_filter: str) -> str | None:
    """What is wrong with a filter, or None."""
    levels = topic_filter.split("/")
    if not topic_filter:
        return "the topic filter is empty"
    if len(topic_filter.encode("utf-8", "surrogatepass")) > MAX_TOPIC_BYTES:
        return f"the topic filter is longer than {MAX_TOPIC_BYTES} bytes"
    if len(levels) - 1 > MAX_SLASHES and not topic_filter.startswith("$"):
        return f"the topic filter has more than {MAX_SLASHES} slashes"
    if "\0" in topic_filter:
        return "the topic filter has a null character"
    if any("+" in level and level != "+" for level in levels):
        return "+ must fill a whole level of the topic filter"
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return "# must be the last level of the topic filter, alone"
    return None


def matcher(topic_filter: str) -> Callable[[str], bool]:
    """A function that says whether a topic matches this valid filter."""
    if "+" not in topic_filter and "#" not in topic_filter:
        return topic_filter.__eq__
    levels = topic_filter.split("/")
    ends_open = levels[-1] == "#"
    pattern = "/".join(
        "[^/]*" if level == "+" else re.escape(level)
        for level in levels[: -1 if ends_open else None]
    )
    if ends_open:
        pattern = f"{pattern}(?:/.*)?" if len(levels) > 1 else ".*"
    guard = r"(?!\$)" if levels[0] in {"+", "#"} else ""
    compiled = re.compile(guard + pattern, re.DOTALL)
    return lambda topic: compiled.fullmatch(topic) is not None


def basic_ingest_rule(topic: str) -> str | None:
    """The rule that a Basic Ingest topic names; it alone gets the message."""
    found = _BASIC_INGEST.match(topic) if topic.startswith("$") else None
    return found.group(1) if found else None


__all__ = ["basic_ingest_rule", "matcher", "problem_with", "strip_basic_ingest"]
