"""A compiled rule: which topics it takes, and what it makes of a message.

A payload is parsed once, and only where the SQL needs it as JSON. What AWS documents for
a payload that is no JSON object (developer guide, "Working with binary payloads"):

- ``SELECT *`` alone passes the bytes on as they are, and so does ``encode(*, 'base64')``;
- in WHERE and in templates its names are Undefined;
- ``*`` beside other items, or a name in SELECT, cannot be answered: :class:`PayloadError`,
  which on AWS goes to the error action. An empty payload counts as an empty object there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Final

import orjson

from cloud.iotsql.compiler import (
    Evaluator,
    Frame,
    compile_condition,
    compile_expression,
    compile_select,
    result_of,
)
from cloud.iotsql.context import RuleContext
from cloud.iotsql.errors import PayloadError
from cloud.iotsql.parser import parse_statement
from cloud.iotsql.syntax import Field, Item, Query, Star, Statement
from cloud.iotsql.topics import matcher
from cloud.iotsql.values import MAX_DEPTH, UNDEFINED, Value, from_json, serialise


@dataclass(frozen=True, slots=True)
class Result:
    """The outgoing payload. ``value`` is JSON, bytes (``SELECT *`` of raw bytes) or UNDEFINED."""

    value: Value

    def to_bytes(self) -> bytes:
        """What an action sends: JSON in UTF-8, or the raw bytes; Undefined is empty."""
        return serialise(self.value)


class Rule:
    """Made by :func:`compile_rule`; immutable and safe to share between threads."""

    def __init__(self, sql: str, statement: Statement) -> None:
        self.sql: Final = sql
        self.topic_filter: Final = statement.topic_filter
        self.variable_names: Final = tuple(name for name, _ in statement.variables)
        query = statement.query
        self._variables: Final = [
            result_of(compile_expression(value)) for _, value in statement.variables
        ]
        self._select: Final = compile_select(query)
        self._where: Final = compile_condition(query.where)
        self._matches: Final = matcher(statement.topic_filter) if statement.topic_filter else None
        self._raw_star: Final = _selects_all(query)
        needs_names = refers_to_fields((query.items, query.value, statement.variables))
        self._needs_object: Final = needs_names or (query.star and bool(query.items))
        self._needs_json: Final = (
            self._needs_object or self._raw_star or refers_to_fields(query.where)
        )

    def matches(self, topic: str) -> bool:
        """Whether FROM takes this topic. Basic Ingest goes by the rule's name instead."""
        return self._matches is not None and self._matches(topic)

    def evaluate(self, payload: bytes, context: RuleContext) -> Result | None:
        """The outgoing payload, or None when WHERE is not true.

        Raises:
            PayloadError: see the module.
        """
        document = parse_payload(payload) if self._needs_json else UNDEFINED
        frame = self._with_variables(Frame(payload, document, context, []))
        if self._where is not None and not self._where(frame):
            return None
        if self._raw_star and (document is UNDEFINED or not payload):
            return Result(payload)
        if self._needs_object and type(document) is not dict:
            raise PayloadError(
                f"the payload ({len(payload)} bytes) is no JSON object, as SELECT needs here"
            )
        return Result(self._select(frame))

    def frame(self, payload: bytes, context: RuleContext) -> Frame:
        """What the rule's templates see: the original payload and the variables of SET."""
        return self._with_variables(_MessageFrame(payload, _UNPARSED, context, []))

    def _with_variables(self, frame: Frame) -> Frame:
        for variable in self._variables:  # one by one: each may use those before it
            frame.variables.append(variable(frame))
        return frame


_UNPARSED: Final = object()


class _MessageFrame(Frame):
    """Parses the payload when a name is first asked for: most templates ask for none."""

    __slots__ = ("_document",)

    _document: Value

    @property
    def current(self) -> Value:
        """The payload as JSON."""
        if self._document is _UNPARSED:
            self._document = parse_payload(self.payload)
        return self._document

    @current.setter
    def current(self, document: Value) -> None:
        self._document = document


def compile_rule(sql: str) -> Rule:
    """Compile the SQL of a rule, version 2016-03-23.

    Raises:
        SqlSyntaxError: it is not what AWS documents; names the position.
    """
    return Rule(sql, parse_statement(sql))


def parse_payload(payload: bytes) -> Value:
    """The payload as JSON, an empty one as ``{}``; UNDEFINED when it is no JSON.

    A bare string or number counts as no JSON (developer guide, "binary payloads").

    Raises:
        PayloadError: it is nested too deep to be carried on.
    """
    if not payload:
        return {}
    try:
        document = orjson.loads(payload)
        if type(document) is not dict and type(document) is not list:
            return UNDEFINED
        return from_json(document)
    except orjson.JSONDecodeError:
        return UNDEFINED
    except RecursionError:
        raise PayloadError(f"the payload is nested deeper than {MAX_DEPTH} levels") from None


def _selects_all(query: Query) -> bool:
    return isinstance(query.value, Star) or (query.star and not query.items)


def refers_to_fields(node: object) -> bool:
    """Whether a tree, or any of several, names a key of the payload."""
    return any(True for _ in _fields_of(node))


def _fields_of(node: object) -> Iterator[Field]:
    """The names that refer to the message itself."""
    if isinstance(node, Field):
        yield node
    elif isinstance(node, tuple):
        for part in node:
            yield from _fields_of(part)
    elif isinstance(node, Item):
        yield from _fields_of(node.value)
    elif is_dataclass(node):
        for part in fields(node):
            yield from _fields_of(getattr(node, part.name))


__all__ = ["Evaluator", "Result", "Rule", "compile_rule", "parse_payload"]
