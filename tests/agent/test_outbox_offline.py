"""Two weeks without a network, and disks that are full."""

import gc
import math
import os
import resource
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from agent.outbox import DropReason, Eviction, Kind, Message, Outbox, Store
from agent.outbox.thinning import GAP_S, distance_m, error_bound_m, point
from agent.outbox.verify import verify
from tests.fakes.clock import FakeClock

SHARE = 1 if os.environ.get("MILEPOST_FULL") else 8
"""CI drives an eighth of the day with an eighth of the room; MILEPOST_FULL=1 all of it."""

DAYS = 15
DRIVE_S = 3 * 3600 // SHARE
PARKED_S = 86_400 // SHARE - DRIVE_S
MAX_BYTES = 64_000_000 // SHARE
RUN = "0000000a"
PADDING = b"x" * 330
"""With it a sample has the contract's usual 500 bytes."""


def where(t_s):
    """A route of straights and right-hand bends: 25 s straight, 5 s bend, 14 m/s."""
    lap, into = divmod(t_s, 120.0)
    corner, into = divmod(into, 30.0)
    sizes = 350.0, 70.0
    x = y = heading = 0.0
    for _ in range(int(corner)):
        x, y = x + sizes[0] * math.cos(heading), y + sizes[0] * math.sin(heading)
        heading += math.pi / 2
        x, y = x + sizes[1] * math.cos(heading), y + sizes[1] * math.sin(heading)
    metres = min(into, 25.0) * 14
    x, y = x + metres * math.cos(heading), y + metres * math.sin(heading)
    if into > 25.0:
        metres = (into - 25.0) * 14
        x, y = x - metres * math.sin(heading), y + metres * math.cos(heading)
    return 50 + (y + 40 * lap) / 111_195, 8 + x / 71_500


def drives(start_ms):
    """Every fifth second of the drives: when, and how far into the route."""
    for day in range(DAYS):
        for second in range(5, DRIVE_S, 5):
            yield start_ms + (day * (DRIVE_S + PARKED_S) + second) * 1000, day * DRIVE_S + second


def resident_bytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_15_days_offline_keep_the_whole_route_and_all_events_in_bounded_space(tmp_path):
    clock = FakeClock()
    outbox = Outbox(
        store=Store(tmp_path / "outbox.db"),
        clock=clock,
        run_id=RUN,
        flush_interval_s=30.0,
        eviction=Eviction(max_bytes=MAX_BYTES, max_age_s=30 * 86_400.0),
    )
    outbox.open()
    events, sequence, largest_file = 0, 0, 0

    def put(kind, lat, lon):
        nonlocal sequence
        sequence += 1
        taken_ms = int(clock.utc().timestamp() * 1000)
        payload = b'{"run_id":"%s","sequence":%d,"location":{"lat":%.7f,"lon":%.7f},"pad":"%s"}' % (
            RUN.encode(),
            sequence,
            lat,
            lon,
            PADDING,
        )
        outbox.put(Message(kind, RUN, sequence, payload, taken_ms, clock.monotonic_s()))

    start_ms = int(clock.utc().timestamp() * 1000)
    memory = []
    driven_s = 0.0
    for _ in range(DAYS):
        for phase, interval_s, length_s in (("drive", 0.2, DRIVE_S), ("park", 10.0, PARKED_S)):
            put(Kind.EVENT, *where(driven_s))
            events += 1
            for _ in range(int(length_s / interval_s)):
                clock.advance(interval_s)
                if phase == "drive":
                    driven_s += interval_s
                put(Kind.SAMPLE, *where(driven_s))
                if outbox.flush_in_s() == 0:
                    outbox.flush()
        largest_file = max(largest_file, outbox._store.space()[1])
        memory.append(resident_bytes())
    for _ in range(20):
        clock.advance(1)
        outbox.flush()

    tally = outbox.tally()
    assert tally.imbalance() == 0
    assert set(tally.dropped) == {DropReason.THINNED}
    assert outbox.backlog(Kind.EVENT) == events == 2 * DAYS
    assert largest_file <= MAX_BYTES * 1.02
    assert max(memory[3:]) - memory[2] < 8_000_000

    points, last = [], -(2**63)
    while rows := outbox._store.window(last, 2_000):
        points += [point(*row) for row in rows]
        last = rows[-1][0]
    level = max(outbox._writer._bounds._sweeps["size"].level, 1)
    largest_gap_s = max((b.taken_ms - a.taken_ms) / 1000 for a, b in pairwise(points))
    worst_m, index = 0.0, 0
    for taken_ms, at_s in drives(start_ms):
        while index + 2 < len(points) and points[index + 1].taken_ms < taken_ms:
            index += 1
        lat, lon = where(at_s)
        true = point(0, RUN, 0, 0, b'{"location":{"lat":%.7f,"lon":%.7f}}' % (lat, lon))
        near = points[max(0, index - 2) : index + 4]
        worst_m = max(worst_m, min(distance_m(true, a, b) for a, b in pairwise(near)))
    file_bytes = (tmp_path / "outbox.db").stat().st_size
    print(  # noqa: T201  the figures that docs/outbox.md states
        f"created {sum(tally.created.values())}, kept {len(points)}, level {level},"
        f" largest gap {largest_gap_s:.1f} s, worst {worst_m:.2f} m, file {file_bytes},"
        f" memory from day 3 on +{max(memory[3:]) - memory[2]} bytes"
    )
    assert points[0].sequence <= 2
    assert largest_gap_s <= 10.0 * 2**5
    assert largest_gap_s < 3 * GAP_S
    assert level <= 5
    assert worst_m <= error_bound_m(level)
    assert worst_m <= 16.0
    outbox.close(sequence)
    assert verify(tmp_path / "outbox.db").sound


FULL_DISK = textwrap.dedent("""
    import pathlib, sys
    from tests.fakes.outbox_bench import Bench
    from agent.outbox import Kind
    folder = pathlib.Path(sys.argv[1])
    bench = Bench(folder)
    bench.put(1, kind=Kind.EVENT)
    sequence = 0
    def drive(blocks):
        global sequence
        for _ in range(blocks):
            for _ in range(100):
                sequence += 1
                bench.put(sequence, size=400, lat=50 + sequence * 1e-5)
            bench.clock.advance(2.5)
            bench.outbox.flush()
            assert bench.outbox.tally().imbalance() == 0
    drive(60)
    with (folder / "somebody-elses.log").open("wb", buffering=0) as log:
        try:
            while log.write(bytes(65536)):
                pass
        except OSError:
            pass
    drive(60)
    kept = bench.on_disk()
    tally = bench.outbox.tally()
    assert set(tally.dropped) == {"thinned"}, tally.dropped
    assert tally.dropped["thinned"] > 5_000, tally.dropped
    assert kept[0] == 1 and len(kept) > 1_000, (kept[:3], len(kept))
    assert kept[-1] > sequence - 600, (kept[-1], sequence)
    assert bench.on_disk(Kind.EVENT) == [1]
    claimed = bench.backlog(500)
    bench.outbox.acknowledge(claimed)
    bench.clock.advance(2.5)
    bench.outbox.flush()
    assert bench.on_disk()[0] > claimed[-1].sequence
    (folder / "somebody-elses.log").unlink()
    for _ in range(3):
        bench.clock.advance(2.5)
        bench.outbox.flush()
    assert bench.outbox.on_disk() == bench.outbox.waiting()
    while claimed := bench.backlog(500):
        bench.outbox.acknowledge(claimed)
    bench.flush(3)
    assert bench.outbox.waiting() == 1
    assert bench.outbox.tally().imbalance() == 0
    print("survived", tally.dropped)
""")

ON_A_SMALL_DISK = 'mount -t tmpfs -o size=6m none "$1" && exec "$2" -c "$3" "$1"'


def may_mount(folder):
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@pytest.mark.needs("unshare")
def test_a_disk_that_is_really_full_thins_old_samples_and_goes_on_afterwards(tmp_path):
    if not may_mount(tmp_path):
        pytest.skip("this kernel lets no ordinary user mount a tmpfs of his own")
    arguments = ["sh", str(tmp_path), sys.executable, FULL_DISK]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "survived" in done.stdout
