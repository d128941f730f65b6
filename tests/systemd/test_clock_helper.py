"""Both ends of milepost-clock, each behind the filters of its own unit."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.kernel_clock import kernel_is_synchronised, read_kernel

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
ASK = """
import sys
from pathlib import Path
from agent.kernel_clock import kernel_is_synchronised, read_kernel
try:
    read_kernel()
except PermissionError:
    print(kernel_is_synchronised(Path(sys.argv[1])))
"""


def confined(unit, *command):
    return [sys.executable, "-m", "tests.fakes.unit_sandbox", FOLDER / unit, *command]


def ask(path):
    done = subprocess.run(
        confined("milepost-agent.service", sys.executable, "-c", ASK, path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def helper(tmp_path):
    """As systemd starts it: the listening socket is its descriptor 3."""
    path = tmp_path / "clock.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # sh: the number, which Popen does not choose
        start = f'exec 3<&{listener.fileno()} && exec "$@"'
        command = confined("milepost-clock.service", sys.executable, "-m", "agent.kernel_clock")
        process = subprocess.Popen(
            ["sh", "-c", start, "sh", *command], pass_fds=[listener.fileno()]
        )
    yield path
    process.terminate()
    process.wait(10)


@pytest.mark.needs("systemd-analyze")
def test_an_agent_that_may_not_ask_the_kernel_hears_its_word_from_the_helper(helper):
    assert ask(helper) == str(read_kernel())


@pytest.mark.needs("systemd-analyze")
def test_without_a_helper_nobody_vouches_for_the_clock(tmp_path):
    assert ask(tmp_path / "absent") == "False"


@pytest.mark.parametrize(("answer", "meant"), [(b"1", True), (b"0", False), (b"", False)])
def test_what_the_helper_says_is_what_counts(tmp_path, monkeypatch, answer, meant):
    def refused():
        raise PermissionError

    monkeypatch.setattr("agent.kernel_clock.read_kernel", refused)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "clock.sock"))
        listener.listen()
        listener.settimeout(10)

        def serve():
            with listener.accept()[0] as connection:
                connection.send(answer)

        thread = threading.Thread(target=serve, name="helper")
        thread.start()
        assert kernel_is_synchronised(tmp_path / "clock.sock") is meant
        thread.join(10)
