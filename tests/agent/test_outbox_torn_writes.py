"""Below SQLite: power cut at every change of the disk, torn, lost and failing writes.

The outbox works in a process in which ``disk_shim.c`` sees every write, sync, cut and
rename of its files. From that log disks are made as a power cut may leave them, and an
outbox is opened on each. ``MILEPOST_FULL=1`` tries every point in every way.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.outbox import DropReason, Kind
from agent.outbox.salvage_jobs import kept_files
from agent.outbox.verify import verify
from tests.fakes.disk_replay import Disk, read_log
from tests.fakes.outbox_bench import RUN, Bench

ROOT = Path(__file__).resolve().parents[2]
EVERY = os.environ.get("MILEPOST_FULL") == "1"

pytestmark = [pytest.mark.needs("gcc"), pytest.mark.timeout(3_600 if EVERY else 240)]

POINTS = 60
STRIDE = 29
PAGE = 4096
LOG_SYNCED = ("S", "outbox.db-wal")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    source = ROOT / "tests" / "fakes" / "disk_shim.c"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"],
        check=True,
    )

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "tests.fakes.shimmed_outbox", *map(str, arguments)],
            cwd=ROOT,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "SHIM_WATCH": "outbox.db",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def there(bench):
    """Open it, let a salvage end, and what is in it by run and sequence, with repetitions."""
    for _ in range(60):
        bench.flush()
        bench.outbox.give_back(bench.backlog(1_000) + bench.backlog(100, Kind.EVENT))
        if not bench.outbox._writer._salvage.waits():
            break
    claimed = [*bench.backlog(1_000), *bench.backlog(1_000, Kind.EVENT)]
    found = [(message.run_id, message.sequence) for message in claimed]
    bench.outbox.give_back(claimed)
    assert bench.outbox.tally().imbalance() == 0
    assert verify(bench.path).sound
    return found


def cuts(log, folder, before):
    """``(name, folder, marked)`` of disks after power cuts at points all over the log."""
    changes = read_log(log)
    chance = random.Random(7)
    points = set(range(len(changes) + 1) if EVERY else chance.sample(range(len(changes)), POINTS))
    disk = Disk(before)
    for point in range(len(changes) + 1):
        ways = ("nothing", "all", "some", "torn")
        for how in ways if EVERY else (chance.choice(ways),):
            if point in points:
                left = folder / f"{point}-{how}"
                disk.leave(left, how, chance)
                yield f"cut before change {point}, {how} of what was not synced", left, disk.marked
                shutil.rmtree(left)
        if point < len(changes):
            disk.apply(changes[point])


def test_a_power_cut_at_any_write_keeps_what_a_commit_had_returned_for(shim, tmp_path):
    work, empty = tmp_path / "work", tmp_path / "empty"
    work.mkdir()
    empty.mkdir()
    shim("record", "drive", work)
    most = 0
    for what, left, marked in cuts(work / "disk.log", tmp_path, empty):
        bench = Bench(left, run_id="00000003")
        found = there(bench)
        bench.outbox.close()
        assert len(found) == len(set(found)), what
        missing = set(marked.get("durable", [])) - set(marked.get("acknowledged", []))
        missing -= {sequence for _, sequence in found}
        assert not missing, what
        assert kept_files(left / "outbox.db") == [], what
        most = max(most, len(found))
    assert most > 60


def test_what_lies_behind_a_gap_in_the_last_commit_replaces_nothing(shim, tmp_path):
    """The disk wrote the commit's last frames and not its first ones: they are not taken."""
    work, empty = tmp_path / "work", tmp_path / "empty"
    work.mkdir()
    empty.mkdir()
    shim("record", "drive", work)
    changes = read_log(work / "disk.log")
    syncs = [number for number, one in enumerate(changes) if (one.kind, one.name) == LOG_SYNCED]
    assert len(syncs) > 5
    disk, chance = Disk(empty), random.Random(7)
    for number, change in enumerate(changes):
        if number in syncs if EVERY else number in syncs[2:7]:
            for turn in range(40 if EVERY else 8):
                left = tmp_path / f"{number}-{turn}"
                disk.leave(left, "some", chance)
                bench = Bench(left, run_id="00000003")
                found = {sequence for _, sequence in there(bench)}
                bench.outbox.close()
                durable = set(disk.marked.get("durable", []))
                assert durable - set(disk.marked.get("acknowledged", [])) <= found, left.name
                assert kept_files(left / "outbox.db") == [], left.name
                shutil.rmtree(left)
        disk.apply(change)


@pytest.fixture
def damaged(tmp_path):
    """An outbox of 400 samples and 5 events of an earlier run with one page lost."""
    bench = Bench(tmp_path / "damaged")
    bench.put(*range(1, 401), size=300)
    bench.put(*range(501, 506), kind=Kind.EVENT, size=5_000)
    bench.flush()
    bench.outbox.close()
    with bench.path.open("r+b") as file:
        file.seek(2 * PAGE)  # the root of the samples
        file.write(b"\xff" * PAGE)
    return bench.path.parent


def test_a_power_cut_at_any_write_of_a_salvage_loses_nothing_that_could_be_read(
    shim, damaged, tmp_path
):
    reference = Bench(shutil.copytree(damaged, tmp_path / "reference"), run_id="00000003")
    readable = set(there(reference))
    reference.outbox.close()
    assert len(readable) >= 400
    work = shutil.copytree(damaged, tmp_path / "work")
    shim("record", "salvage", work)
    for what, left, marked in cuts(work / "disk.log", tmp_path, damaged):
        bench = Bench(left, run_id="00000003")
        found = there(bench)
        kept = kept_files(left / "outbox.db")
        bench.outbox.close()
        new = {("00000002", sequence) for sequence in marked.get("durable", [])}
        assert readable | new <= set(found), what
        assert [file.name for file in kept] == ["outbox.db.salvaged-1"], what
        assert len(found) == len(set(found)), what


@pytest.mark.parametrize("kind", ["eio", "full", "short"])
@pytest.mark.parametrize("scenario", ["drive", "salvage"])
def test_whichever_change_of_the_disk_fails_the_outbox_goes_on_and_loses_nothing(
    shim, damaged, scenario, kind, tmp_path
):
    before = tmp_path / "before"
    if scenario == "salvage":
        shutil.copytree(damaged, before)
    else:
        before.mkdir()
    tries = shim("fail", scenario, before, kind, 1 if EVERY else STRIDE)
    assert len(tries) > 4
    assert not tries[-1]["failed"]
    for one in tries:
        assert not one.get("crashed"), one
        assert one["imbalance"] == 0, one
        bench = Bench(Path(one["folder"]), run_id="00000003")
        found = {sequence for run, sequence in there(bench) if run != RUN}
        bench.outbox.close()
        assert set(one["created"]) - set(one["acknowledged"]) <= found, one
        assert set(one["dropped"]) <= {DropReason.DAMAGED.value}, one
