"""How tightly operators bind; what they bind is the subclass's.

From loose to tight, as in ANSI SQL: OR, AND, NOT, comparison, ``+ -``, ``* / %``, ``.``
Rows of operands and levels of nesting are bounded, so that no text can exhaust the stack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from cloud.iotsql.cursor import Cursor
from cloud.iotsql.lexer import Kind, Token
from cloud.iotsql.syntax import Binary, Expression, Member, Not

MAX_NESTING: Final = 60
MAX_OPERANDS: Final = 200

_COMPARISONS: Final = frozenset({"=", "<>", "<", ">", "<=", ">="})


class PrecedenceParser(ABC):
    """Parses expressions made of operands and operators."""

    def __init__(self, text: str) -> None:
        self._at = Cursor(text)
        self._depth = 0

    @abstractmethod
    def _operand(self) -> Expression:
        """What stands between operators: a literal, field, function, ( … )."""

    def expression(self) -> Expression:
        """One expression; stops before what cannot belong to it.

        Raises:
            SqlSyntaxError: what is there is none.
        """
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._at.error(self._at.peek(), f"nested deeper than {MAX_NESTING} levels")
        left = self._conjunction()
        for count, token in enumerate(self._at.while_keyword("OR")):
            left = Binary("OR", left, self._conjunction(), token.position)
            self._limit(count, token)
        self._depth -= 1
        return left

    def _conjunction(self) -> Expression:
        left = self._negation()
        for count, token in enumerate(self._at.while_keyword("AND")):
            left = Binary("AND", left, self._negation(), token.position)
            self._limit(count, token)
        return left

    def _negation(self) -> Expression:
        negations = list(self._at.while_keyword("NOT"))
        expression = self._comparison()
        for count, token in enumerate(reversed(negations)):
            expression = Not(expression, token.position)
            self._limit(count, token)
        return expression

    def _comparison(self) -> Expression:
        left = self._sum()
        token = self._at.take_symbol(*_COMPARISONS)
        if token is None:
            return left
        compared = Binary(token.text, left, self._sum(), token.position)
        another = self._at.take_symbol(*_COMPARISONS)
        if another:
            raise self._at.refuse(another, "AND, OR or parentheses: comparisons do not chain")
        return compared

    def _sum(self) -> Expression:
        left = self._product()
        for count, token in enumerate(self._at.while_symbol("+", "-")):
            left = Binary(token.text, left, self._product(), token.position)
            self._limit(count, token)
        return left

    def _product(self) -> Expression:
        left = self._member()
        for count, token in enumerate(self._at.while_symbol("*", "/", "%")):
            left = Binary(token.text, left, self._member(), token.position)
            self._limit(count, token)
        return left

    def _limit(self, count: int, token: Token) -> None:
        if count >= MAX_OPERANDS:
            raise self._at.error(token, f"more than {MAX_OPERANDS} operands in one row")

    def _member(self) -> Expression:
        inner = self._operand()
        for count, dot in enumerate(self._at.while_symbol(".")):
            name = self._at.expect_kind(Kind.NAME, "a name after the dot")
            inner = Member(inner, name.text, dot.position)
            self._limit(count, dot)
        bracket = self._at.peek()
        if bracket.text == "[" and bracket.kind is Kind.SYMBOL:
            raise self._at.refuse(bracket, "get(…, index): [ ] is not documented as an index")
        return inner
