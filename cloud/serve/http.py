"""An HTTP server: uvicorn in a thread of its own, for the map and for the file exchange.

Their work must not hold up the broker's event loop, hence the thread; the socket is
bound before anything else starts, so that a port in use is an error and not a log line.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloud.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 5.0

log = logging.getLogger(__name__)


class HttpServer:
    """Serves one application on a bound socket; ``stop`` is idempotent.

    ``what`` names it in messages; ``make_options`` gives further ones of ``uvicorn.Config``.
    Both functions are called in the server's thread, because their imports take seconds.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_app: Callable[[], ASGIApp],
        *,
        what: str = "the map",
        make_options: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._listener = listener
        self._make_app = make_app
        self._what = what
        self._make_options = make_options
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"http-{what}", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ConfigError: the application could not be made or started.
        """
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S) or self._failure is not None:
            raise ConfigError(
                f"{self._what} could not be started: {self._failure or 'it takes too long'}",
                hint="is the extra installed? pip install 'milepost[cloud]'",
            )

    def stop(self) -> None:
        """Close it, open pages included."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * STOP_TIMEOUT_S)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001  told to whoever called start()
            if self._started.is_set():
                log.error("the server of %s ended: %r", self._what, error)  # noqa: TRY400  as above
            self._failure = error
        finally:
            self._started.set()

    def _serve(self) -> None:
        import uvicorn  # noqa: PLC0415  slow, and only this thread needs it

        stopping, started = self._stopping, self._started

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                started.set()

            async def on_tick(self, counter: int) -> bool:
                return await super().on_tick(counter) or stopping.is_set()

        config = uvicorn.Config(
            self._make_app(),
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(STOP_TIMEOUT_S),
            **self._make_options(),
        )
        Server(config).run(sockets=[self._listener])
