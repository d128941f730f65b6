"""docs/operations.md tells of everything that an operator may see."""

import ast
import re

import pytest

from agent.outbox.message import DropReason
from cloud.ports import AlertKind
from contract.messages import EventType
from tests.conftest import ROOT

PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
TOLD = frozenset({"warning", "error", "exception", "critical"})
_PLACE = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]")


def _lines_logged():
    for path in sorted([*ROOT.glob("agent/**/*.py"), *ROOT.glob("cloud/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in TOLD
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id.lower().strip("_") == "log"
            ):
                text = node.args[0]
                assert isinstance(text, ast.Constant), f"{path}:{node.lineno} builds its own text"
                yield f"{path.relative_to(ROOT)}:{node.lineno}", _PLACE.sub("…", text.value)


LOGGED = [(where, text) for where, text in _lines_logged() if re.search(r"[a-z]{3}", text)]


def test_the_code_was_read():
    assert len(LOGGED) > 70


@pytest.mark.parametrize("text", sorted({text for _, text in LOGGED}))
def test_each_warning_and_error_is_explained(text):
    places = [where for where, logged in LOGGED if logged == text]
    assert f"`{text}`" in PAGE, f"written by {', '.join(places)}"


@pytest.mark.parametrize("name", [*EventType, *AlertKind, *DropReason])
def test_each_event_alert_and_reason_of_a_drop_is_explained(name):
    assert f"`{name.value}`" in PAGE
