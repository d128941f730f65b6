"""Serves the metrics with prometheus_client's own server, which is loaded only then: 3 MB."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.config import MetricsSettings
from agent.errors import StateError

if TYPE_CHECKING:
    import threading
    from wsgiref.simple_server import WSGIServer

LOG = logging.getLogger("agent.metrics")


class MetricsServer:
    """``start()`` once; ``stop()`` idempotent, safe before it; both nothing for port 0."""

    def __init__(self, settings: MetricsSettings, account: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._account = account
        self._running: tuple[WSGIServer, threading.Thread] | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            StateError: the port is taken, or the address is not this machine's.
        """
        if self._settings.port == 0:
            return
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415

        from agent.metrics.collector import AccountCollector  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(AccountCollector(self._account))
        address, port = str(self._settings.address), self._settings.port
        try:
            self._running = start_http_server(port, address, registry)
        except OSError as error:
            raise StateError(
                f"metrics.port: cannot listen on {address}, port {port}: {error.strerror}",
                hint="Choose another metrics.port or metrics.address; port 0 serves no metrics.",
            ) from error
        LOG.info("metrics on %s, port %d", address, port)

    def stop(self) -> None:
        """Stop listening."""
        running, self._running = self._running, None
        if running is not None:
            server, thread = running
            server.shutdown()
            server.server_close()
            thread.join(5.0)
