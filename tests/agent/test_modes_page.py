"""The documentation of the modes is their table."""

from agent.engine import modes
from agent.engine.modes import TABLE
from agent.engine.modes_page import docstring_table, page
from tests.conftest import ROOT


def test_the_committed_page_with_its_diagram_is_that_of_the_table():
    assert (ROOT / "docs" / "modes.md").read_text(encoding="utf-8") == page(), "run: make schema"


def test_the_table_in_the_module_s_docstring_is_that_of_the_code():
    assert docstring_table() in modes.__doc__, docstring_table()


def test_the_diagram_has_an_arrow_for_each_pair_of_modes_of_the_table_and_no_other():
    block = page().split("```mermaid\n")[1].split("```")[0]
    arrows = [line.split(" : ")[0].split() for line in block.splitlines() if " : " in line]
    drawn = [(source, target) for source, _, target in arrows]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(row.source.value, row.target.value) for row in TABLE}


def test_every_guard_of_the_table_is_explained():
    assert all(row.guard.__doc__ for row in TABLE)
