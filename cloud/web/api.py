"""The HTTP interface beside the page: read only, JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from cloud.web.ports import FleetQueries, Json

_log = logging.getLogger(__name__)


def create_router(queries: FleetQueries) -> APIRouter:
    """``GET /healthz``, ``/api/vehicles``, …``/account``, ``/api/alerts``, ``/api/figures``.

    Each answers 503 when nothing can be read.

    Plain functions, so that FastAPI runs them in a thread: the stores block.
    """
    router = APIRouter()

    @router.get("/healthz")
    def healthz() -> JSONResponse:
        """``{"status": "ok"}`` while the stores can be read."""
        return _answer(lambda: {"status": "ok", "vehicles": len(queries.statuses())})

    @router.get("/api/vehicles")
    def vehicles() -> JSONResponse:
        """Every vehicle as it is now."""
        return _answer(lambda: {"vehicles": queries.vehicles()})

    @router.get("/api/vehicles/{vehicle_id}/account")
    def account(vehicle_id: str) -> JSONResponse:
        """A vehicle's account: received, missing and why, late, duplicates; see docs/accounting.md.

        All zeros for a vehicle that nothing has arrived of.
        """
        return _answer(lambda: queries.account(vehicle_id))

    @router.get("/api/alerts")
    def alerts() -> JSONResponse:
        """The open alerts, newest first."""
        return _answer(lambda: {"alerts": queries.alerts(open_only=True)})

    @router.get("/api/figures")
    def figures() -> JSONResponse:
        """``latency_ms`` from sample to stored position; quick enough to be asked often."""
        return _answer(lambda: {"latency_ms": queries.latency_ms()})

    return router


def _answer(read: Callable[[], Json]) -> JSONResponse:
    try:
        return JSONResponse(read(), headers={"Cache-Control": "no-store"})
    except Exception as error:  # noqa: BLE001  whatever a store raises is "not now" to a client
        _log.warning("cannot answer: %s", error)
        return JSONResponse({"status": "unavailable", "reason": "store"}, status_code=503)
