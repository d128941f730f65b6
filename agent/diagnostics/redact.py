"""What is taken out of everything that goes into a bundle. Pure.

Three nets, each for what slips through the others:

1. values that are known on this board to be secret, and the paths of keys, word by word;
2. things that look like a secret, wherever they stand (``LOOKS``): PEM blocks, tokens,
   keys of AWS, passwords in URLs, long random text;
3. values beside a name that says that they are secret (``NAMES``), in JSON and in text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

GONE: Final = "[redacted]"

_NAME: Final = (
    r"[\w.-]*(?:password|passwd|passphrase|psk|secret|token|api[_-]?key|private[_-]?key|keyfile"
    r"|credential|cookie|authorization|ownership)[\w.-]*|(?:[\w.-]*[_.-])?(?:pin|pwd|auth)"
)
NAMES: Final = re.compile(_NAME, re.IGNORECASE)
"""A name whose value is secret; whole names, as keys of JSON."""

PATHS: Final = frozenset(
    {
        *("key_file", "pin_file", "certificate_file", "module_file"),
        *("claim_key_file", "claim_certificate_file"),
    }
)
"""Keys of the config that name where a secret is, or that go with one."""

_RANDOM: Final = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{40,}={0,2}")


def _random(match: re.Match[str]) -> str:
    """Base64 of a key or a token; hexadecimal digests and paths are none."""
    text = match[0]
    counts = (
        sum(one.isupper() for one in text),
        sum(one.islower() for one in text),
        sum(one.isdigit() for one in text),
    )
    return f"{GONE[:-1]} {len(text)} characters]" if min(counts[:2]) >= 6 and counts[2] else text


Replacement = str | Callable[[re.Match[str]], str]

LOOKS: Final[tuple[tuple[re.Pattern[str], Replacement], ...]] = (
    # PEM in one line, as in JSON, or cut off
    (
        re.compile(
            r"-----BEGIN [^-\n]{1,60}-----(?:\\[nr]|[A-Za-z0-9+/=\s])*"
            r"(?:-----END[^-\n]{1,60}-----)?"
        ),
        GONE,
    ),
    # JSON Web Tokens; the ownership token of AWS IoT is one
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), GONE),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{12,}"), GONE),
    # https://user:password@host
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s:@\"']*:[^/\s@\"']+@", re.IGNORECASE),
        rf"\1{GONE}@",
    ),
    # what signs a URL
    (
        re.compile(
            r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig"
            r"|token|key)=)[^&\s\"'<>]+",
            re.IGNORECASE,
        ),
        rf"\1{GONE}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/._~=-]{6,}", re.IGNORECASE), rf"\1 {GONE}"),
    # name = value, name: value, "name": "value", --name value
    (
        re.compile(
            rf"(?<![\w.-])((?:{_NAME})[\"']?\s*[=:]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;}}\]]+)",
            re.IGNORECASE,
        ),
        rf"\1{GONE}",
    ),
    (re.compile(rf"(--(?:{_NAME})\s+)(\S+)", re.IGNORECASE), rf"\1{GONE}"),
    (_RANDOM, _random),
)
"""In this order; each on the whole text."""

_PEM_BEGIN: Final = "-----BEGIN "
_PEM_END: Final = "-----END "
_PEM_LINE: Final = re.compile(r"(?:^|.*\s)([A-Za-z0-9+/]{1,76}={0,2})\s*$")


def redact_text(text: str, known: Mapping[str, str] | None = None) -> str:
    """A text of any kind; ``known`` are secrets of this board, and what to write for each."""
    for value, told in sorted((known or {}).items(), key=lambda pair: -len(pair[0])):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", told, text)
    if _PEM_BEGIN in text:
        text = _without_pem_lines(text)
    for pattern, replacement in LOOKS:
        text = pattern.sub(replacement, text)
    return text


def redact_tree(value: Any, known: Mapping[str, str] | None = None) -> Any:
    """A value of JSON, keys and leaves."""
    if isinstance(value, dict):
        return {
            redact_text(str(key), known): _of_key(str(key), inner, known)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_tree(inner, known) for inner in value]
    if isinstance(value, str):
        return redact_text(value, known)
    return value


def _of_key(key: str, value: Any, known: Mapping[str, str] | None) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if key in PATHS:
        return "[path redacted]"
    if NAMES.fullmatch(key):
        return GONE
    return redact_tree(value, known)


def _without_pem_lines(text: str) -> str:
    """PEM over lines that each have something before it, e.g. a log's time.

    Its lines are all of one length but the last, so one that was cut off ends, too.
    """
    lines: list[str] = []
    length: int | None = None
    inside = False
    for line in text.split("\n"):
        body = _PEM_LINE.match(line.rstrip("\r"))
        if _PEM_BEGIN in line and _PEM_END not in line.partition(_PEM_BEGIN)[2]:
            inside, length = True, None
            lines.append(line.partition(_PEM_BEGIN)[0] + GONE)
        elif inside and _PEM_END in line:
            inside = False
        elif inside and body is not None:
            length = length or len(body[1])
            inside = len(body[1]) == length
        else:
            inside = False
            lines.append(line)
    return "\n".join(lines)
