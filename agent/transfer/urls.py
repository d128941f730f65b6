"""The URLs that a job may name; anything else is refused before anything is dialled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from contract.files import BROKER_SCHEME

MAX_URL: Final = 8_192
_HTTPS: Final = 443


class UrlError(ValueError):
    """No URL that a job may name; the text says why, without the URL's query (it may sign)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is; ``host`` is ``None`` for the one-machine cloud at the broker's host."""

    host: str | None
    port: int
    target: str
    """Path and query."""

    @property
    def told(self) -> str:
        """For the log: never the query, which may hold a signature."""
        return f"{self.host or 'the broker'}:{self.port}{self.target.partition('?')[0]}"


def place_of(url: object) -> Place:
    """Read a URL.

    Raises:
        UrlError: it is none, or of another scheme than https and broker.
    """
    if not isinstance(url, str) or len(url) > MAX_URL or not url.isascii() or not url.isprintable():
        raise UrlError(f"a URL is ASCII text of at most {MAX_URL} characters")
    if " " in url:
        raise UrlError("a URL has no spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"is no URL: {error}") from None
    if parts.scheme not in {"https", BROKER_SCHEME}:
        raise UrlError(
            f"{parts.scheme or 'no scheme'}: only https:// and {BROKER_SCHEME}:// are allowed"
        )
    if parts.username is not None or parts.password is not None:
        raise UrlError("a URL with a user or a password is not allowed")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == BROKER_SCHEME:
        if parts.hostname or port is None:
            raise UrlError(f"{BROKER_SCHEME}:// names a port and no host: {BROKER_SCHEME}://:8884/")
        return Place(None, port, target)
    if not parts.hostname:
        raise UrlError("https:// without a host")
    return Place(parts.hostname, port or _HTTPS, target)
