"""Log lines: one form for people, one for machines; a change of state is told once."""

import json
import logging

import pytest

from agent.config import LogSettings
from agent.logs import StateLog, set_up


@pytest.fixture
def root_as_it_was():
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], level, logging.raiseExceptions = before
    root.setLevel(level)


def test_text_lines_name_time_level_and_component(root_as_it_was, capsys):
    set_up(LogSettings())
    logging.getLogger("agent.sources.gpsd.source").warning("lost: %s", "x")
    logging.getLogger("agent.sources.gpsd.source").debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert line[10] == "T"
    assert line.endswith("Z warning  gpsd: lost: x")


def test_json_lines_hold_the_same_and_a_traceback(root_as_it_was, capsys):
    set_up(LogSettings.model_validate({"format": "json", "level": "debug"}))
    try:
        int("é\n")
    except ValueError:
        logging.getLogger("agent.engine").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["component"], entry["message"]) == ("error", "engine", "failed")
    assert "ValueError" in entry["traceback"]
    assert entry["thread"] == "MainThread"


def test_a_failure_is_logged_once_and_its_end_once(caplog):
    caplog.set_level(logging.INFO)
    state = StateLog(logging.getLogger("agent.test"), "GPS")
    assert not state.recovered()
    assert [state.failed("a"), state.failed("b"), state.recovered(), state.recovered()] == [
        True,
        False,
        True,
        False,
    ]
    assert [record.message for record in caplog.records] == ["GPS lost: a", "GPS recovered"]
