import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from agent.memory import use_small_pages
use_small_pages()
print(open("/proc/self/status").read())
"""


def test_the_agent_takes_no_huge_pages_nor_do_its_children():
    if "THP_enabled:" not in Path("/proc/self/status").read_text():
        pytest.skip("this kernel does not say whether a process may have huge pages")
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    assert "THP_enabled:\t0" in told
