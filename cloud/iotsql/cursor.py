"""Where a parser is in its tokens, and how it says that it expected something else."""

from __future__ import annotations

from collections.abc import Iterator

from cloud.iotsql.errors import SqlSyntaxError
from cloud.iotsql.lexer import Kind, Token, tokenise


class Cursor:
    """Reads tokens one after the other; the last one, END, is never passed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokenise(text)
        self._next = 0

    def peek(self, ahead: int = 0) -> Token:
        """A token that is still to come."""
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token."""
        token = self.peek()
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def take_symbol(self, *symbols: str) -> Token | None:
        """The next token if it is one of these symbols."""
        token = self.peek()
        return self.take() if token.kind is Kind.SYMBOL and token.text in symbols else None

    def take_keyword(self, keyword: str) -> Token | None:
        """The next token if it is this keyword, in any case of letters."""
        return self.take() if self.peek().keyword == keyword else None

    def while_symbol(self, *symbols: str) -> Iterator[Token]:
        """Take these symbols as long as they come."""
        while token := self.take_symbol(*symbols):
            yield token

    def while_keyword(self, keyword: str) -> Iterator[Token]:
        """Take this keyword as long as it comes."""
        while token := self.take_keyword(keyword):
            yield token

    def expect_symbol(self, symbol: str, expected: str = "") -> Token:
        """Take this symbol.

        Raises:
            SqlSyntaxError: something else is there.
        """
        token = self.take_symbol(symbol)
        if token is None:
            raise self.refuse(self.peek(), expected or symbol)
        return token

    def expect_keyword(self, keyword: str, expected: str) -> Token:
        """Take this keyword, or raise as above."""
        token = self.take_keyword(keyword)
        if token is None:
            raise self.refuse(self.peek(), expected)
        return token

    def expect_kind(self, kind: Kind, expected: str) -> Token:
        """Take a token of this kind, or raise as above."""
        if self.peek().kind is not kind:
            raise self.refuse(self.peek(), expected)
        return self.take()

    def refuse(self, token: Token, expected: str) -> SqlSyntaxError:
        """The error that this token should not be here."""
        return self.error(token, f"unexpected {token}", expected)

    def error(self, token: Token, problem: str, expected: str = "") -> SqlSyntaxError:
        """An error at this token."""
        return SqlSyntaxError(self.text, token.position, problem, expected)
