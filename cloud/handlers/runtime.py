"""What turns a ``build(stores)`` into the entry point of a Lambda function."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

from cloud.errors import ConfigError
from cloud.ports import LambdaEvent, LambdaResponse
from cloud.stores import Stores

Handler = Callable[[LambdaEvent, object], LambdaResponse]


class LazyHandler:
    """Composes the AWS stores from the environment on its first call, once."""

    def __init__(self, build: Callable[[Stores], Handler], *variables: str) -> None:
        self._build = build
        self._variables = variables
        self._handler: Handler | None = None
        self._lock = threading.Lock()

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Handle one event.

        Raises:
            ConfigError: a variable of the environment is missing.
        """
        with self._lock:
            if self._handler is None:
                self._handler = self._compose()
        return self._handler(event, context)

    def _compose(self) -> Handler:
        from cloud.stores.aws import aws_stores  # noqa: PLC0415  boto3 is not for one machine

        missing = [name for name in self._variables if not os.environ.get(name)]
        if missing:
            raise ConfigError(
                f"the environment lacks {', '.join(missing)}",
                hint="cloud/template.yaml sets it for each function.",
            )
        handler = self._build(aws_stores(os.environ))
        # what was loaded stays; else a full collection walks all of it every few events
        gc.freeze()
        return handler
