"""The syntax tree. Every node carries the position of its first character."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.iotsql.values import Value


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, Boolean or Null written in the text."""

    value: Value
    position: int


@dataclass(frozen=True, slots=True)
class ArrayLiteral:
    """``[a, 1, 'x']``."""

    items: tuple[Expression, ...]
    position: int


@dataclass(frozen=True, slots=True)
class ObjectLiteral:
    """``{'key': expression}``."""

    items: tuple[tuple[str, Expression], ...]
    position: int


@dataclass(frozen=True, slots=True)
class Field:
    """A key of the payload, or of the current element of a nested query."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Variable:
    """``@name``, set by the SET clause; ``index`` counts from 0."""

    name: str
    index: int
    position: int


@dataclass(frozen=True, slots=True)
class Member:
    """``inner.name``."""

    inner: Expression
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Star:
    """``*`` as an argument: the whole payload, raw."""

    position: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function; its name in lower case."""

    name: str
    arguments: tuple[Expression, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Cast:
    """``cast(value AS type)``; the type is String, Int, Decimal or Boolean."""

    value: Expression
    target: str
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    """``NOT operand``."""

    operand: Expression
    position: int


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``; the operator is upper case."""

    operator: str
    left: Expression
    right: Expression
    position: int


@dataclass(frozen=True, slots=True)
class Case:
    """``CASE subject WHEN … THEN … [ELSE …] END``."""

    subject: Expression
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None
    position: int


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a SELECT list: where it goes (``bar.baz``) and what goes there."""

    path: tuple[str, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Query:
    """What SELECT and WHERE say, of a rule or of a nested query.

    Either ``value`` is set (SELECT VALUE; a ``Star`` is the whole source), or ``star``
    and ``items``.
    """

    star: bool
    items: tuple[Item, ...]
    value: Expression | None
    where: Expression | None


@dataclass(frozen=True, slots=True)
class Nested:
    """``(SELECT … FROM path [WHERE …])`` over an array or object."""

    query: Query
    source: Expression
    position: int


Expression = (
    Literal
    | ArrayLiteral
    | ObjectLiteral
    | Field
    | Variable
    | Member
    | Star
    | Call
    | Cast
    | Not
    | Binary
    | Case
    | Nested
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole rule; without FROM (``topic_filter`` None) only Basic Ingest reaches it."""

    variables: tuple[tuple[str, Expression], ...]
    query: Query
    topic_filter: str | None
