"""The live map as a FastAPI application: one page, its feed, and the HTTP interface.

NiceGUI keeps its application in a module, so there is one map in a process. Importing
this module takes about half a second and 25 MB: import it where it is served, not at the
top of a command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from nicegui import core, ui

from cloud.clock import Clock, SystemClock
from cloud.web.api import create_router
from cloud.web.elements import STYLE, FleetMap, FleetPanel
from cloud.web.feed import Feed
from cloud.web.hub import Hub
from cloud.web.ports import DrawnAreas, FleetQueries
from cloud.web.security import SecurityHeaders

RECONNECT_S: Final = 15.0
"""How long a page that lost its connection can come back without being loaded anew."""
HISTORY_MESSAGES: Final = 60
"""Messages kept for a page that comes back; more than ``RECONNECT_S`` brings forth."""

_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
    '<path fill="#2563eb" d="M12 2a8 8 0 0 0-8 8c0 5.4 8 12 8 12s8-6.6 8-12a8 8 0 0 0-8-8z"/>'
    '<circle cx="12" cy="10" r="3.2" fill="#fff"/></svg>'
)


def create_app(
    queries: FleetQueries, *, areas: DrawnAreas, tiles: bool, clock: Clock | None = None
) -> FastAPI:
    """The application, for uvicorn; once in a process.

    ``tiles``: whether browsers may load OpenStreetMap's tiles. Without them no request
    leaves the server's own address.

    Raises:
        RuntimeError: called a second time.
    """
    if core.app.config.has_run_config:
        raise RuntimeError("create_app() was called before; NiceGUI serves one map a process")
    hub = Hub(Feed(queries), SystemClock() if clock is None else clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        hub.start()
        yield
        await hub.stop()

    app = FastAPI(title="Milepost", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(SecurityHeaders, tiles=tiles)
    app.include_router(create_router(queries))
    drawn = areas.geojson()

    @ui.page("/")
    def live_map() -> None:
        client = ui.context.client
        ui.add_css(STYLE)
        with ui.element("main").classes("fleet"):
            FleetPanel()
            fleet_map = FleetMap(
                drawn, tiles=tiles, on_join=lambda: hub.join(client.id, fleet_map.push)
            )
        client.on_delete(lambda: hub.leave(client.id))

    ui.run_with(
        app,
        title="Milepost",
        favicon=_ICON,
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=RECONNECT_S,
        message_history_length=HISTORY_MESSAGES,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )
    return app
