"""Text to tokens.

Names are ASCII letters, digits and underscores; a name with a space cannot be written
(developer guide, "AWS IoT SQL reference"). Strings stand in single or double quotes and
have no escapes: none is documented, and a backslash is wanted in regular expressions.
There are no comments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloud.iotsql.errors import SqlSyntaxError

MAX_SQL_CHARACTERS: Final = 256 * 1024
"""A rule document may have 256 KB (AWS IoT Core quotas, rules engine)."""


class Kind(Enum):
    """What a token is."""

    NAME = "a name"
    VARIABLE = "a variable"
    STRING = "a string"
    NUMBER = "a number"
    SYMBOL = "a symbol"
    END = "the end"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; ``text`` of a string is without its quotes, of a variable without ``@``."""

    kind: Kind
    text: str
    position: int
    quote: str = ""

    @property
    def keyword(self) -> str:
        """Upper-cased text of a name, empty for every other token."""
        return self.text.upper() if self.kind is Kind.NAME else ""

    def __str__(self) -> str:
        if self.kind is Kind.END:
            return "the end of the text"
        prefix = "@" if self.kind is Kind.VARIABLE else self.quote
        return f"{prefix}{self.text}{self.quote}"


_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | @(?P<variable>[A-Za-z0-9_]{1,64})(?![A-Za-z0-9_])
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | '(?P<single>[^']*)'
    | "(?P<double>[^"]*)"
    | (?P<symbol><>|<=|>=|[-+*/%=<>().,\[\]{}:])
    """,
    re.VERBOSE,
)
_HINTS: Final = (
    ("!=", "<> for not equal"),
    ("||", "+ or concat() to join strings"),
    ("'", "a closing quote '"),
    ('"', 'a closing quote "'),
    ("@", "1 to 64 letters, digits or underscores after @"),
)


def tokenise(text: str) -> list[Token]:
    """All tokens, the last one of kind END.

    Raises:
        SqlSyntaxError: a character that begins no token.
    """
    if len(text) > MAX_SQL_CHARACTERS:
        raise SqlSyntaxError(text, MAX_SQL_CHARACTERS, "the text is longer than 256 K characters")
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _unreadable(text, position)
        if found.lastgroup != "space":
            tokens.append(_token(found))
            _check_number_end(text, found)
        position = found.end()
    tokens.append(Token(Kind.END, "", len(text)))
    return tokens


def _token(found: re.Match[str]) -> Token:
    position = found.start()
    match found.lastgroup:
        case "name":
            return Token(Kind.NAME, found.group(), position)
        case "variable":
            return Token(Kind.VARIABLE, found.group("variable"), position)
        case "number":
            return Token(Kind.NUMBER, found.group(), position)
        case "single":
            return Token(Kind.STRING, found.group("single"), position, "'")
        case "double":
            return Token(Kind.STRING, found.group("double"), position, '"')
        case _:
            return Token(Kind.SYMBOL, found.group(), position)


def _check_number_end(text: str, found: re.Match[str]) -> None:
    after = text[found.end() : found.end() + 1]
    if found.lastgroup == "number" and (after.isalnum() or after in {"_", "."}) and after:
        raise SqlSyntaxError(
            text, found.end(), f"{after!r} directly after a number", "a digit, a space or a symbol"
        )


def _unreadable(text: str, position: int) -> SqlSyntaxError:
    expected = next((hint for mark, hint in _HINTS if text.startswith(mark, position)), "")
    return SqlSyntaxError(text, position, f"unreadable at {text[position]!r}", expected)
