"""What docs/shadow.md says is so."""

import re

from click.testing import CliRunner

from agent.config.live import LIVE_SECTIONS
from agent.shadow.conversation import LONGEST_S, QUESTIONS, REPORTS
from cloud.cli import cli
from cloud.serve.device_services import MAX_IN_FLIGHT
from cloud.shadow.requests import MAX_LEVELS
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "shadow.md").read_text()


def test_every_command_that_it_names_exists_with_its_options():
    named = re.findall(r"milepost-cloud shadow (\w+)([^`\n]*)", TEXT)
    assert {command for command, _ in named} == {"get", "set", "diff", "delete"}
    for command, rest in named:
        told = CliRunner().invoke(cli, ["shadow", command, "--help"])
        assert told.exit_code == 0
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in told.output, (command, option)


def test_the_sections_limits_and_rates_are_those_in_force():
    for section in LIVE_SECTIONS:
        assert f"`{section}`" in TEXT
    assert (MAX_IN_FLIGHT, MAX_LEVELS) == (10, 6)
    assert "six levels, ten requests" in TEXT
    assert (QUESTIONS, REPORTS, LONGEST_S) == ((5.0, 0.2), (5.0, 0.1), 3600)
