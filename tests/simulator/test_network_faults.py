import math
import signal
import socket
import subprocess
import sys
from random import Random

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from simulator.cli import cli
from simulator.network.conditions import CLEAR, Condition, Reach
from simulator.network.faults import FAULTS, Spell, condition_at, parse_fault, parse_spell


def test_every_fault_of_the_table_is_read_by_the_example_that_its_help_shows():
    for name, kind in FAULTS.items():
        text = f"{name}={kind.example}" if kind.example else name
        fault = parse_fault(text)
        assert fault.name == text
        assert fault.condition != CLEAR


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("half-open", Condition(reach=Reach.HALF_OPEN)),
        ("delay=5s", Condition(delay_s=5)),
        ("loss=30%", Condition(loss=0.3)),
        ("rate=1KB/s", Condition(rate_bytes_per_s=1000)),
        ("rate=1.5kb/s", Condition(rate_bytes_per_s=1500)),
        ("kick=500ms", Condition(life_s=0.5)),
    ],
)
def test_a_fault_is_a_condition(text, condition):
    assert parse_fault(text).condition == condition


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rain", "choose one of cut, half-open"),
        ("cut=5", "write plain cut"),
        ("delay", "write delay=5s"),
        ("delay=soon", "no duration"),
        ("loss=100%", "below 100 %"),
        ("loss=some", "write e.g. loss=30%"),
        ("rate=1", "KB/s"),
        ("rate=0KB/s", "above 0"),
        ("flap=4s", "two durations"),
        ("flap=0s/2s", "above 0"),
        ("cut@60s..30s", "ends before it begins"),
        ("cut@later", "no duration"),
    ],
)
def test_what_is_no_fault_is_refused_with_what_there_is(text, said):
    with pytest.raises(ValueError, match=said):
        parse_spell(text)


def test_a_fault_holds_from_its_start_to_its_end():
    assert parse_spell("cut") == Spell(parse_fault("cut"), 0, math.inf)
    assert parse_spell("cut@30s") == Spell(parse_fault("cut"), 30, math.inf)
    spell = parse_spell("half-open@30s..1m")
    assert [spell.holds_at(at_s) for at_s in (29.9, 30, 59.9, 60)] == [False, True, True, False]


def test_flapping_is_good_first_and_then_cut_again_and_again():
    spells = [parse_spell("flap=4s/2s@10s..30s")]
    seen = {at_s: condition_at(spells, at_s).reach for at_s in (9, 11, 13.9, 14, 15.9, 16, 20, 31)}
    assert [at_s for at_s, reach in seen.items() if reach is Reach.CUT] == [14, 15.9, 20]


def test_faults_at_the_same_time_add_up():
    spells = [
        parse_spell(text)
        for text in ("delay=1s", "delay=2s@5s", "rate=1KB/s", "loss=50%", "cut@5s")
    ]
    assert condition_at(spells, 0) == Condition(delay_s=1, rate_bytes_per_s=1000, loss=0.5)
    assert condition_at(spells, 5).delay_s == 3
    assert condition_at(spells, 5).reach is Reach.CUT


@given(loss=st.floats(0, 0.9), seed=st.integers())
def test_a_lost_segment_is_late_by_doubling_timeouts_and_never_lost_for_good(loss, seed):
    condition = Condition(loss=loss, delay_s=0.1)
    late_s = round(condition.transit_s(Random(seed)) - 0.1, 6)
    assert late_s in {round(0.2 * (2**k - 1), 6) for k in range(7)}


def test_at_thirty_per_cent_loss_thirty_per_cent_of_the_segments_are_late():
    random = Random(1)
    late = sum(Condition(loss=0.3).transit_s(random) > 0 for _ in range(10_000))
    assert 2800 < late < 3200


# --- the command -------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli, ["network", *map(str, arguments)])


def test_the_help_shows_every_fault_and_examples():
    text = run("--help").output
    for name in FAULTS:
        assert f"  {name}" in text
    assert "half-open@30s..60s" in text
    assert "server_name" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--to"),
        (["--to", "broker"], "HOST:PORT"),
        (["--to", "broker:0"], "HOST:PORT"),
        (["--to", "broker:1", "--fault", "rain"], "choose one of"),
        (["--to", "broker:1", "--fault", "cut@30s", "--for", "20s"], "ends after 20 s"),
    ],
)
def test_wrong_words_are_a_usage_error(words, said):
    result = run(*words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_taken_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--listen", f"127.0.0.1:{port}", "--to", "127.0.0.1:1")
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.output


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_it_passes_on_has_its_faults_on_time_and_sums_up(number):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        words = ["--to", f"127.0.0.1:{server.getsockname()[1]}", "--fault", "cut@1s"]
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "network", *words]
            + (["--for", "2s"] if number is None else []),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            first = process.stdout.readline()
            port = int(first.split(",")[0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"hello")
                near, _ = server.accept()
                with near:
                    assert near.recv(5) == b"hello"
                    assert " s  cut" in process.stdout.readline()
                    with pytest.raises(ConnectionResetError):
                        near.recv(1)
            if number is not None:
                process.send_signal(number)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert "1 connections, 1 passed on, 0 refused; 5 bytes to the server" in rest
