"""What the shadow service says: answers, deltas, documents, errors."""

from __future__ import annotations

from cloud.errors import ShadowError
from cloud.shadow.document import Shadow, delta, stamps
from cloud.shadow.requests import Json, Request


def get_document(shadow: Shadow, request: Request, now_s: int) -> Json:
    """The answer to ``get``."""
    state = dict(shadow.state)
    difference, _ = delta(shadow)
    if difference:
        state["delta"] = difference
    document = {"state": state, "metadata": shadow.metadata}
    return _answer(document, shadow, request, now_s)


def update_document(shadow: Shadow, request: Request, now_s: int) -> Json:
    """The answer to ``update``: what it asked for, with the times it was given."""
    metadata = {
        name: stamps(section, shadow.changed_s)
        for name, section in request.state.items()
        if section is not None
    }
    return _answer({"state": request.state, "metadata": metadata}, shadow, request, now_s)


def delete_document(shadow: Shadow, request: Request, now_s: int) -> Json:
    """The answer to ``delete``."""
    return _answer({}, shadow, request, now_s)


def delta_document(shadow: Shadow, request: Request, now_s: int) -> Json | None:
    """What goes to ``update/delta``; ``None`` without a difference."""
    state, metadata = delta(shadow)
    if not state:
        return None
    return _answer({"state": state, "metadata": metadata}, shadow, request, now_s)


def documents_document(before: Shadow | None, after: Shadow, request: Request, now_s: int) -> Json:
    """What goes to ``update/documents``."""
    document: Json = {
        "previous": _whole(before if before and not before.deleted else None),
        "current": _whole(after),
        "timestamp": now_s,
    }
    if request.client_token is not None:
        document["clientToken"] = request.client_token
    return document


def error_document(error: ShadowError, now_s: int) -> Json:
    """What goes to ``…/rejected``."""
    document: Json = {"code": error.code, "message": error.reason, "timestamp": now_s}
    if error.client_token is not None:
        document["clientToken"] = error.client_token
    return document


def _answer(document: Json, shadow: Shadow, request: Request, now_s: int) -> Json:
    document = {**document, "version": shadow.version, "timestamp": now_s}
    if request.client_token is not None:
        document["clientToken"] = request.client_token
    return document


def _whole(shadow: Shadow | None) -> Json:
    if shadow is None:
        return {"state": {}, "metadata": {}, "version": 0}
    return {"state": shadow.state, "metadata": shadow.metadata, "version": shadow.version}
