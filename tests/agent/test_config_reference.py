"""The page of configuration keys is what the settings say."""

from agent.config.reference import text
from tests.conftest import ROOT


def test_the_committed_page_is_up_to_date():
    assert (ROOT / "docs" / "configuration.md").read_text() == text(), "run: make schema"


def test_every_section_and_key_of_the_readme_example_is_on_it():
    page = text()
    for name in ("[vehicle]", "[broker]", "[[can]]", "`server_name`", "`valid_if`", "`dbc`"):
        assert name in page
