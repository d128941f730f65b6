"""How functions are declared."""

from __future__ import annotations

from collections.abc import Callable

from cloud.iotsql.values import UNDEFINED, Value, to_text

Function = Callable[..., Value]
"""Takes evaluated arguments, returns a value, raises nothing."""


def on_texts(function: Callable[..., Value]) -> Function:
    """Convert every argument to a String first; Undefined where one cannot be."""

    def evaluate(*arguments: Value) -> Value:
        texts = [to_text(argument) for argument in arguments]
        return UNDEFINED if None in texts else function(*texts)

    return evaluate
