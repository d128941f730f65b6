"""Wait for what has no time limit of its own (resolvers, gpsd-py3), and not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Call(Generic[Result]):
    """One call in a thread of its own, which is left behind if it never ends."""

    def __init__(self, work: Callable[[], Result], name: str) -> None:
        self._work = work
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def result(self, timeout_s: float) -> Result:
        """What the call gave, or raised.

        Raises:
            TimeoutError: it did not end in time; it goes on.
        """
        if not self._done.wait(max(0.0, timeout_s)):
            raise TimeoutError("no answer in time")
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._work())
        except Exception as error:  # noqa: BLE001  raised again where it is waited for
            self._error = error
        finally:
            self._done.set()
