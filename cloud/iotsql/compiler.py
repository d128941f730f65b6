"""A syntax tree to closures: each node becomes a function of one :class:`Frame`.

Compiling once makes evaluation a few calls per node; nothing is looked up by name while
messages flow. A frame holds the payload, what names refer to (the payload's object, or
the element of a nested query) and the variables of SET.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from cloud.iotsql.context import SQL_VERSION, RuleContext
from cloud.iotsql.functions import PURE
from cloud.iotsql.functions.collection import cast
from cloud.iotsql.operators import BINARY, is_equal, logical_not
from cloud.iotsql.syntax import (
    ArrayLiteral,
    Binary,
    Call,
    Case,
    Cast,
    Expression,
    Field,
    Item,
    Literal,
    Member,
    Nested,
    Not,
    ObjectLiteral,
    Query,
    Star,
    Variable,
)
from cloud.iotsql.values import UNDEFINED, Value, canonical, to_floor, to_text


class Frame:
    """What an expression sees while one message is evaluated."""

    __slots__ = ("context", "current", "payload", "variables")

    current: Value

    def __init__(
        self, payload: bytes, current: Value, context: RuleContext, variables: list[Value]
    ) -> None:
        self.payload = payload
        self.current = current
        self.context = context
        self.variables = variables


Evaluator = Callable[[Frame], Value]


def compile_expression(node: Expression) -> Evaluator:  # noqa: PLR0912  one case a node
    """A function that evaluates ``node``."""
    match node:
        case Literal(value):
            return lambda _frame: value
        case Field(name):
            return _field(name)
        case Member(inner, name):
            return _member(compile_expression(inner), name)
        case Variable(index=index):
            return lambda frame: frame.variables[index]
        case Star():
            return lambda frame: frame.payload
        case Not(operand):
            return _apply(logical_not, (operand,))
        case Binary(operator, left, right):
            return _apply(BINARY[operator], (left, right))
        case Call(name, arguments):
            return _call(name, arguments)
        case Cast(value, target):
            return _cast(value, target)
        case ArrayLiteral(items):
            return _array(items)
        case ObjectLiteral(pairs):
            return _object(pairs)
        case Case():
            return _case(node)
        case Nested(query, source):
            return _nested(compile_query(query), compile_expression(source))


def result_of(evaluator: Evaluator) -> Evaluator:
    """The same with canonical numbers: a literal ``10.0`` is a Decimal only on its way."""

    def evaluate(frame: Frame) -> Value:
        value = evaluator(frame)
        return canonical(value) if type(value) is Decimal else value

    return evaluate


def _field(name: str) -> Evaluator:
    def evaluate(frame: Frame) -> Value:
        current = frame.current
        return current.get(name, UNDEFINED) if type(current) is dict else UNDEFINED

    return evaluate


def _member(inner: Evaluator, name: str) -> Evaluator:
    def evaluate(frame: Frame) -> Value:
        value = inner(frame)
        return value.get(name, UNDEFINED) if type(value) is dict else UNDEFINED

    return evaluate


def _cast(value: Expression, target: str) -> Evaluator:
    value_of = compile_expression(value)
    return lambda frame: cast(target, value_of(frame))


def _apply(function: Callable[..., Value], arguments: tuple[Expression, ...]) -> Evaluator:
    compiled = [compile_expression(argument) for argument in arguments]
    if len(compiled) == 1:
        only = compiled[0]
        return lambda frame: function(only(frame))
    if len(compiled) == 2:
        first, second = compiled
        return lambda frame: function(first(frame), second(frame))
    return lambda frame: function(*[argument(frame) for argument in compiled])


def _array(items: tuple[Expression, ...]) -> Evaluator:
    compiled = [result_of(compile_expression(item)) for item in items]

    def evaluate(frame: Frame) -> Value:
        values = [item(frame) for item in compiled]
        return [value for value in values if value is not UNDEFINED]

    return evaluate


def _object(pairs: tuple[tuple[str, Expression], ...]) -> Evaluator:
    compiled = [(key, result_of(compile_expression(value))) for key, value in pairs]

    def evaluate(frame: Frame) -> Value:
        values = {key: value(frame) for key, value in compiled}
        return {key: value for key, value in values.items() if value is not UNDEFINED}

    return evaluate


def _case(node: Case) -> Evaluator:
    subject = compile_expression(node.subject)
    branches = [
        (compile_expression(test), compile_expression(then)) for test, then in node.branches
    ]
    otherwise = compile_expression(node.otherwise or Literal(UNDEFINED, node.position))

    def evaluate(frame: Frame) -> Value:
        value = subject(frame)
        if value is UNDEFINED:
            return UNDEFINED
        for test, then in branches:
            if is_equal(value, test(frame)) is True:
                return then(frame)
        return otherwise(frame)

    return evaluate


def _nested(query: Evaluator, source: Evaluator) -> Evaluator:
    """Over an Array: the results of those elements that pass; over an Object: its result."""

    def evaluate(frame: Frame) -> Value:
        value = source(frame)
        if type(value) is dict:
            return query(Frame(frame.payload, value, frame.context, frame.variables))
        if type(value) is not list:
            return UNDEFINED
        results = [
            query(Frame(frame.payload, element, frame.context, frame.variables))
            for element in value
        ]
        return [result for result in results if result is not UNDEFINED]

    return evaluate


def compile_query(query: Query) -> Evaluator:
    """SELECT and WHERE over ``frame.current``; UNDEFINED when WHERE is not true."""
    select = compile_select(query)
    where = compile_condition(query.where)
    return lambda frame: select(frame) if where is None or where(frame) else UNDEFINED


def compile_condition(where: Expression | None) -> Callable[[Frame], bool] | None:
    """Whether WHERE is true; None when there is none."""
    if where is None:
        return None
    condition = compile_expression(where)
    return lambda frame: condition(frame) is True


def compile_select(query: Query) -> Evaluator:
    """What SELECT makes of ``frame.current``."""
    if isinstance(query.value, Star):
        return lambda frame: frame.current
    if query.value is not None:
        return result_of(compile_expression(query.value))
    if query.star and not query.items:
        return lambda frame: frame.current
    setters = [_setter(item) for item in query.items]
    star = query.star

    def evaluate(frame: Frame) -> Value:
        current = frame.current
        selected = dict(current) if star and type(current) is dict else {}
        for set_item in setters:
            set_item(frame, selected)
        return selected

    return evaluate


def _setter(item: Item) -> Callable[[Frame, dict[str, Value]], None]:
    value_of = result_of(compile_expression(item.value))
    *parents, name = item.path

    def set_plain(frame: Frame, selected: dict[str, Value]) -> None:
        value = value_of(frame)
        if value is not UNDEFINED:
            selected[name] = value

    def set_dotted(frame: Frame, selected: dict[str, Value]) -> None:
        value = value_of(frame)
        if value is UNDEFINED:
            return
        target = selected
        for parent in parents:
            inner = target.get(parent)
            # a copy, since the payload's own object must not change
            target[parent] = dict(inner) if type(inner) is dict else {}
            target = target[parent]
        target[name] = value

    return set_dotted if parents else set_plain


def _call(name: str, arguments: tuple[Expression, ...]) -> Evaluator:
    if name == "topic":
        return _topic(arguments)
    if name in _OF_CONTEXT:
        read = _OF_CONTEXT[name]
        return lambda frame: read(frame.context)
    if name in _OF_MESSAGE:
        look_up = _OF_MESSAGE[name]
        key_of = compile_expression(arguments[0])
        return lambda frame: look_up(frame.context, to_text(key_of(frame)))
    return _apply(PURE[name], arguments)


def _topic(arguments: tuple[Expression, ...]) -> Evaluator:
    if not arguments:
        return lambda frame: frame.context.rule_topic
    if isinstance(arguments[0], Literal) and type(arguments[0].value) is int:
        constant: int = arguments[0].value
        return lambda frame: frame.context.segment(constant)
    number = compile_expression(arguments[0])

    def evaluate(frame: Frame) -> Value:
        position = to_floor(number(frame))
        return UNDEFINED if position is None else frame.context.segment(position)

    return evaluate


def _or_undefined(value: Value) -> Value:
    return UNDEFINED if value is None else value


def _user_properties(context: RuleContext, name: str | None) -> Value:
    values = context.user_properties.get(name) if name is not None else None
    return UNDEFINED if values is None else list(values)


_OF_CONTEXT: Final[dict[str, Callable[[RuleContext], Value]]] = {
    "accountid": lambda context: _or_undefined(context.account_id),
    "clientid": lambda context: context.client_id,
    "newuuid": lambda _context: str(uuid.uuid4()),
    "principal": lambda context: _or_undefined(context.principal),
    "rand": lambda _context: random.random(),  # noqa: S311  the SQL function is no secret
    "sourceip": lambda context: _or_undefined(context.source_ip),
    "sql_version": lambda _context: SQL_VERSION,
    "timestamp": lambda context: context.timestamp_ms,
    "traceid": lambda context: _or_undefined(context.trace_id),
}
_OF_MESSAGE: Final[dict[str, Callable[[RuleContext, str | None], Value]]] = {
    "get_mqtt_property": lambda context, name: _or_undefined(
        context.mqtt_properties.get(name or "")
    ),
    "get_user_properties": _user_properties,
}
