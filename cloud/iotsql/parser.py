"""Tokens to a syntax tree.

Only what the AWS IoT developer guide documents is accepted. Where AWS leaves open what
would happen (the key of an item that is no plain name, a chain ``a < b < c``, ``IN``,
``EXISTS``, ``a[0]``, ``-a``), the text is refused with the documented way to say it,
rather than given a meaning that AWS may not share.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from cloud.iotsql.keywords import CAST_TARGETS, RESERVED, UNDOCUMENTED
from cloud.iotsql.lexer import Kind, Token
from cloud.iotsql.precedence import PrecedenceParser
from cloud.iotsql.signatures import check_call, check_name
from cloud.iotsql.syntax import (
    ArrayLiteral,
    Call,
    Case,
    Cast,
    Expression,
    Field,
    Item,
    Literal,
    Member,
    Nested,
    ObjectLiteral,
    Query,
    Star,
    Statement,
    Variable,
)
from cloud.iotsql.topics import problem_with
from cloud.iotsql.values import from_literal

MAX_VARIABLES: Final = 100


def parse_statement(text: str) -> Statement:
    """Parse the SQL of a rule.

    Raises:
        SqlSyntaxError: names the position and what was expected.
    """
    return _Parser(text, ()).statement()


def parse_expression(text: str, variables: tuple[str, ...] = ()) -> Expression:
    """Parse one expression, as in ``${…}``; ``variables`` are those that the rule sets.

    Raises:
        SqlSyntaxError: as for a statement; the position counts within the expression.
    """
    parser = _Parser(text, variables)
    expression = parser.expression()
    parser.end("an operator or the end of the expression")
    return expression


class _Parser(PrecedenceParser):
    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        super().__init__(text)
        self._variables = list(variables)

    def statement(self) -> Statement:
        variables = self._set_clause()
        self._at.expect_keyword("SELECT", "SELECT")
        star, items, value = self._select_list()
        topic_filter = self._from_clause()
        where = self.expression() if self._at.take_keyword("WHERE") else None
        self.end("WHERE, an operator or the end of the text")
        return Statement(variables, Query(star, items, value, where), topic_filter)

    def end(self, expected: str) -> None:
        token = self._at.peek()
        if token.kind is not Kind.END:
            raise self._at.refuse(token, UNDOCUMENTED.get(token.keyword, expected))

    def _set_clause(self) -> tuple[tuple[str, Expression], ...]:
        variables: list[tuple[str, Expression]] = []
        if not self._at.take_keyword("SET"):
            return ()
        while True:
            name = self._at.expect_kind(Kind.VARIABLE, "@ and the name of a variable")
            if name.text in self._variables:
                raise self._at.error(name, f"@{name.text} is set twice", "each name once")
            if len(variables) == MAX_VARIABLES:
                raise self._at.error(name, f"more than {MAX_VARIABLES} variables")
            self._at.expect_symbol("=")
            variables.append((name.text, self.expression()))
            self._variables.append(name.text)
            if not self._at.take_symbol(","):
                return tuple(variables)

    def _from_clause(self) -> str | None:
        if self._at.peek().kind is Kind.END:
            return None
        self._at.expect_keyword("FROM", "a comma, an operator or FROM")
        token = self._at.expect_kind(Kind.STRING, "a topic filter in single quotes")
        if token.quote != "'":
            raise self._at.refuse(token, "a topic filter in single quotes")
        problem = problem_with(token.text)
        if problem:
            raise self._at.error(token, problem)
        return token.text

    def _select_list(self) -> tuple[bool, tuple[Item, ...], Expression | None]:
        if self._at.peek().keyword == "VALUE" and self._value_is_keyword():
            self._at.take()
            star = self._at.take_symbol("*")
            value = Star(star.position) if star else self.expression()
            if self._at.peek().text == ",":
                raise self._at.refuse(self._at.peek(), "FROM: VALUE selects one item")
            return False, (), value
        star_seen = False
        items: list[Item] = []
        while True:
            star = self._at.take_symbol("*")
            if star and (star_seen or items):
                raise self._at.error(star, "* stands first and once in a SELECT list", "a name")
            if star:
                star_seen = True
            else:
                items.append(self._item())
            if not self._at.take_symbol(","):
                return star_seen, tuple(items), None

    def _value_is_keyword(self) -> bool:
        """VALUE may be the name of a field too: ``SELECT value, unit FROM …``."""
        following = self._at.peek(1)
        if following.kind is Kind.SYMBOL:
            if following.text == "*":
                after = self._at.peek(2)
                return after.kind is Kind.END or after.keyword in {"FROM", "WHERE"}
            return following.text in {"(", "[", "{"}
        if following.kind is Kind.NAME:
            return following.keyword not in RESERVED - {"NOT", "CASE", "NULL", "TRUE", "FALSE"}
        return following.kind is not Kind.END

    def _item(self) -> Item:
        start = self._at.peek()
        value = self.expression()
        if self._at.take_keyword("AS"):
            path = [self._at.expect_kind(Kind.NAME, "the name to select it as").text]
            while self._at.take_symbol("."):
                path.append(self._at.expect_kind(Kind.NAME, "a name after the dot").text)
            return Item(tuple(path), value)
        if isinstance(value, Field):
            return Item((value.name,), value)
        token = self._at.peek()
        if token.kind is not Kind.END and token.text != "," and token.keyword not in {"FROM", ""}:
            raise self._at.refuse(token, UNDOCUMENTED.get(token.keyword, "an operator, AS or FROM"))
        raise self._at.error(
            start,
            "what is selected here has no name",
            "AS and a name, since AWS documents none for what is no plain field",
        )

    def _operand(self) -> Expression:
        token = self._at.take()
        match token.kind:
            case Kind.NUMBER:
                return Literal(self._number(token.text, token), token.position)
            case Kind.STRING:
                return self._string(token)
            case Kind.VARIABLE:
                return self._variable(token)
            case Kind.NAME:
                return self._name(token)
            case Kind.SYMBOL if token.text == "-" and self._at.peek().kind is Kind.NUMBER:
                number = self._at.take()
                return Literal(self._number(f"-{number.text}", number), token.position)
            case Kind.SYMBOL if token.text == "-":
                raise self._at.refuse(self._at.peek(), "a number after - (write 0 - x otherwise)")
            case Kind.SYMBOL if token.text == "(":
                return self._parenthesis(token)
            case Kind.SYMBOL if token.text == "[":
                return ArrayLiteral(self._expressions("]"), token.position)
            case Kind.SYMBOL if token.text == "{":
                return ObjectLiteral(self._pairs(), token.position)
        raise self._at.refuse(token, "a field, literal, function or (")

    def _number(self, text: str, token: Token) -> int | Decimal:
        try:
            return from_literal(text)
        except ArithmeticError:
            raise self._at.error(token, "a number beyond 9.99E999") from None

    def _string(self, token: Token) -> Expression:
        if "${" in token.text:
            raise self._at.error(
                token, "a substitution template inside the SQL", "${…} in the rule's actions only"
            )
        return Literal(token.text, token.position)

    def _variable(self, token: Token) -> Expression:
        if token.text not in self._variables:
            raise self._at.error(token, f"@{token.text} is not set", "SET @… before its use")
        return Variable(token.text, self._variables.index(token.text), token.position)

    def _name(self, token: Token) -> Expression:
        keyword = token.keyword
        opens = self._at.peek().text == "(" and self._at.peek().kind is Kind.SYMBOL
        if keyword in {"NULL", "TRUE", "FALSE"}:
            return Literal({"NULL": None, "TRUE": True, "FALSE": False}[keyword], token.position)
        if keyword == "CASE":
            return self._case(token)
        if keyword in RESERVED or (keyword in {"EXISTS", "IN"} and opens):
            raise self._at.refuse(token, UNDOCUMENTED.get(keyword, "a field, literal or function"))
        if not opens:
            return Field(token.text, token.position)
        self._at.take()
        name = token.text.lower()
        check_name(self._at.text, name, token.position)
        if name == "cast":
            return self._cast(token)
        call = Call(name, self._arguments(name), token.position)
        check_call(self._at.text, call)
        return call

    def _arguments(self, name: str) -> tuple[Expression, ...]:
        star = self._at.peek()
        if star.text != "*" or star.kind is not Kind.SYMBOL:
            return self._expressions(")")
        if name != "encode":
            raise self._at.refuse(star, "an expression: * is an argument of encode only")
        self._at.take()
        rest = self._expressions(")") if self._at.take_symbol(",") else ()
        if not rest:
            self._at.take_symbol(")")
        return (Star(star.position), *rest)

    def _cast(self, token: Token) -> Expression:
        value = self.expression()
        self._at.expect_keyword("AS", "AS and a type")
        target = self._at.expect_kind(Kind.NAME, "a type: " + ", ".join(sorted(CAST_TARGETS)))
        if target.text.lower() not in CAST_TARGETS:
            raise self._at.refuse(target, "a type: " + ", ".join(sorted(CAST_TARGETS)))
        self._at.expect_symbol(")")
        return Cast(value, CAST_TARGETS[target.text.lower()], token.position)

    def _case(self, token: Token) -> Expression:
        if self._at.peek().keyword == "WHEN":
            raise self._at.refuse(self._at.peek(), "the expression that the WHENs are equal to")
        subject = self.expression()
        branches: list[tuple[Expression, Expression]] = []
        self._at.expect_keyword("WHEN", "WHEN")
        while True:
            test = self.expression()
            self._at.expect_keyword("THEN", "THEN")
            branches.append((test, self.expression()))
            if not self._at.take_keyword("WHEN"):
                break
        otherwise = self.expression() if self._at.take_keyword("ELSE") else None
        self._at.expect_keyword("END", "END" if otherwise else "WHEN, ELSE or END")
        return Case(subject, tuple(branches), otherwise, token.position)

    def _parenthesis(self, token: Token) -> Expression:
        if not self._at.take_keyword("SELECT"):
            inner = self.expression()
            self._at.expect_symbol(")")
            return inner
        star, items, value = self._select_list()
        self._at.expect_keyword("FROM", "FROM and a field")
        start = self._at.peek()
        source = self._member()
        base = source
        while isinstance(base, Member):
            base = base.inner
        if not isinstance(base, Field | Variable):
            raise self._at.error(start, "a nested query reads from a field", "a name or @variable")
        where = self.expression() if self._at.take_keyword("WHERE") else None
        self._at.expect_symbol(")")
        return Nested(Query(star, items, value, where), source, token.position)

    def _expressions(self, closing: str) -> tuple[Expression, ...]:
        if self._at.take_symbol(closing):
            return ()
        found = [self.expression()]
        while self._at.take_symbol(","):
            found.append(self.expression())
        self._at.expect_symbol(closing, f"a comma or {closing}")
        return tuple(found)

    def _pairs(self) -> tuple[tuple[str, Expression], ...]:
        pairs: list[tuple[str, Expression]] = []
        if self._at.take_symbol("}"):
            return ()
        while True:
            key = self._at.expect_kind(Kind.STRING, "a key in quotes")
            self._at.expect_symbol(":")
            pairs.append((key.text, self.expression()))
            if not self._at.take_symbol(","):
                self._at.expect_symbol("}", "a comma or }")
                return tuple(pairs)
