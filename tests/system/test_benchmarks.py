"""Every benchmark starts: what it imports is there, and it says what it measures.

No figure is tested: machines differ. ``docs/performance.md`` holds what was measured.
"""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

BENCHMARKS = sorted(path.name for path in (ROOT / "bench").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_starts_and_says_what_it_measures(name):
    told = subprocess.run(
        [sys.executable, str(ROOT / "bench" / name), "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "--json" in told.stdout


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_named_where_its_figures_are(name):
    performance = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"bench/{name}" in performance or f"bench.{name.removesuffix('.py')}" in performance
