"""Substitution templates: ``${expression}`` in the parameters of a rule's actions.

They see the original payload, functions and the rule's SET variables, never an alias of
SELECT (developer guide, "Substitution templates"). An expression that is Undefined leaves
nothing, since Undefined by itself serialises to the empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cloud.iotsql.compiler import Evaluator, Frame, compile_expression, result_of
from cloud.iotsql.context import RuleContext
from cloud.iotsql.errors import SqlSyntaxError
from cloud.iotsql.parser import parse_expression
from cloud.iotsql.rule import parse_payload, refers_to_fields
from cloud.iotsql.values import UNDEFINED, serialise, to_text

_OPEN: Final = "${"


class Template:
    """Made by :func:`compile_template`; immutable."""

    def __init__(self, text: str, parts: Sequence[str | Evaluator], *, needs_json: bool) -> None:
        self.text: Final = text
        self._needs_json: Final = needs_json
        self._parts: Final = tuple(parts)
        self.is_constant: Final = all(isinstance(part, str) for part in self._parts)

    def render(self, payload: bytes, context: RuleContext) -> str:
        """The text for one message.

        Raises:
            PayloadError: the payload is nested too deep.
        """
        if self.is_constant:
            return "".join(part for part in self._parts if isinstance(part, str))
        document = parse_payload(payload) if self._needs_json else UNDEFINED
        return self.render_frame(Frame(payload, document, context, []))

    def render_frame(self, frame: Frame) -> str:
        """The text for one message of a rule that sets variables: see ``Rule.frame``."""
        return "".join(
            part if isinstance(part, str) else _text(part, frame) for part in self._parts
        )


def _text(part: Evaluator, frame: Frame) -> str:
    value = part(frame)
    text = to_text(value)
    return serialise(value).decode(errors="replace") if text is None else text


def compile_template(text: str, variables: tuple[str, ...] = ()) -> Template:
    """Compile a template; ``variables`` are the rule's ``variable_names``.

    Raises:
        SqlSyntaxError: an expression in it is wrong, or ``${`` is not closed; the position
            counts within the template.
    """
    parts: list[str | Evaluator] = []
    position = 0
    needs_json = False
    while (start := text.find(_OPEN, position)) >= 0:
        end = _end_of_expression(text, start + len(_OPEN))
        if end < 0:
            raise SqlSyntaxError(text, start, "${ is not closed", "}")
        parts.append(text[position:start])
        inner = text[start + len(_OPEN) : end]
        try:
            expression = parse_expression(inner, variables)
        except SqlSyntaxError as error:
            raise SqlSyntaxError(
                text, start + len(_OPEN) + error.position, error.problem, error.expected
            ) from None
        parts.append(result_of(compile_expression(expression)))
        needs_json = needs_json or refers_to_fields(expression)
        position = end + 1
    parts.append(text[position:])
    return Template(text, parts, needs_json=needs_json)


def _end_of_expression(text: str, position: int) -> int:
    """Where the closing brace is, past braces of objects and whatever stands in quotes."""
    depth = 0
    quote = ""
    for index in range(position, len(text)):
        character = text[index]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return index
            depth -= 1
    return -1


_compiled = lru_cache(maxsize=256)(compile_template)


def substitute(template: str, payload: bytes, context: RuleContext) -> str:
    """Render a template; compiled ones are kept.

    Raises:
        SqlSyntaxError: see :func:`compile_template`.
        PayloadError: see :meth:`Template.render`.
    """
    return _compiled(template).render(payload, context)
