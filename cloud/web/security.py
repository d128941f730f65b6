"""What the page's browser may load, told to it with every answer.

The policy is the second lock: the page asks for nothing foreign by itself, and with
tiles off the browser would refuse to.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TILE_HOST: Final = "https://tile.openstreetmap.org"


def content_security_policy(*, tiles: bool) -> str:
    """Everything from this server alone, but for the tiles.

    Vue compiles templates in the browser and NiceGUI starts the page by an inline script,
    hence the two ``unsafe`` words; what vehicles send is never part of either.
    """
    images = "'self' data:" + (f" {TILE_HOST}" if tiles else "")
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            f"img-src {images}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
        )
    )


class SecurityHeaders:
    """ASGI middleware that adds the headers; nothing else."""

    def __init__(self, app: ASGIApp, *, tiles: bool) -> None:
        self.app = app
        self._headers = {
            "Content-Security-Policy": content_security_policy(tiles=tiles),
            "X-Content-Type-Options": "nosniff",
            # OpenStreetMap asks for a Referer; the address of this server is enough.
            "Referrer-Policy": "strict-origin-when-cross-origin" if tiles else "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; add the headers when the answer begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self.app(scope, receive, send_with_headers)
