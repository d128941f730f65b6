"""What can go wrong with a rule.

::

    IotSqlError
    ├── SqlSyntaxError      the text is no documented IoT SQL,
    │                       e.g. ``SELECT a FROM 'x' WHERE a != 1`` (it is ``<>``)
    └── PayloadError        a message does not suit the rule; on AWS the error action gets it,
                            e.g. ``SELECT *, topic(2) AS id`` on bytes that are no JSON object

Nothing else escapes from compiling or evaluating, whatever the text or the payload.
"""

from __future__ import annotations


class IotSqlError(ValueError):
    """Any failure of this package."""


class SqlSyntaxError(IotSqlError):
    """The text is refused before any message is seen.

    ``position`` counts characters from 0; ``line`` and ``column`` count from 1;
    ``expected`` says what would have been right there, or is empty.
    """

    def __init__(self, text: str, position: int, problem: str, expected: str = "") -> None:
        self.text = text
        self.position = position
        self.line = text.count("\n", 0, position) + 1
        self.column = position - (text.rfind("\n", 0, position) + 1) + 1
        self.problem = problem
        self.expected = expected
        hint = f"; expected {expected}" if expected else ""
        super().__init__(f"line {self.line}, column {self.column}: {problem}{hint}")

    def __reduce__(self) -> tuple[type[SqlSyntaxError], tuple[str, int, str, str]]:
        return (type(self), (self.text, self.position, self.problem, self.expected))


class PayloadError(IotSqlError):
    """One message cannot be evaluated; the rule itself is sound."""
