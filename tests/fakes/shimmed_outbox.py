"""An outbox whose disk is watched below SQLite: python -m tests.fakes.shimmed_outbox.

Run with ``disk_shim.c`` preloaded. Arguments: ``record`` or ``fail``, the scenario, a
folder, and for ``fail`` the kind of failure and a stride. ``record`` leaves ``disk.log``.
``fail`` does the scenario again and again in copies of the folder, each in a process of its
own and with a later change of the disk failing, by the stride; a line of JSON for each.
"""

import contextlib
import ctypes
import json
import logging
import os
import shutil
import sys
from pathlib import Path

from agent.outbox import Kind, StoreError
from tests.fakes.outbox_bench import Bench

FAILURES = {"eio": 1, "full": 2, "short": 3}


class Shim:
    """The functions of ``disk_shim.c``; it is in the process already."""

    def __init__(self):
        self._library = ctypes.CDLL(None)

    def log(self, path):
        self._library.shim_log(None if path is None else os.fsencode(path))

    def mark(self, **facts):
        self._library.shim_mark(json.dumps(facts, separators=(",", ":")).encode())

    def fail(self, number, kind):
        self._library.shim_fail(number, FAILURES[kind])

    def failed(self):
        return bool(self._library.shim_failed())


class Scenario:
    """An outbox at work; ``durable`` is what it must never lose from here on."""

    def __init__(self, folder, shim):
        self.shim = shim
        self.bench = Bench(folder, run_id="00000002", max_bytes=1_000_000)
        self.created, self.acknowledged = set(), set()

    def put(self, *sequences, **more):
        self.bench.put(*sequences, **more)
        self.created |= set(sequences)

    def flush(self, rounds=1):
        for _ in range(rounds):
            self.bench.clock.advance(2.5)
            self.bench.outbox.flush()
            self.tell()

    def tell(self):
        """Mark what a commit has returned for, and what need not be there any more."""
        if self.bench.outbox._writer._ledger.unwritten()[0] == 0:
            self.shim.mark(durable=sorted(self.created), acknowledged=sorted(self.acknowledged))

    def acknowledge(self, limit, kind=Kind.SAMPLE):
        claimed = self.bench.backlog(limit, kind)
        self.acknowledged |= {m.sequence for m in claimed if m.run_id == self.bench.run_id}
        self.tell()
        self.bench.outbox.acknowledge(claimed)

    def settle(self):
        """Until the disk is in use again and no salvage waits."""
        for _ in range(60):
            self.flush()
            writer = self.bench.outbox._writer
            done = writer.is_open and not writer._salvage.waits()
            if done and self.bench.outbox._writer._ledger.unwritten()[0] == 0:
                return


def drive(scenario):
    """Commits, deletes, a checkpoint in between, an orderly end."""
    for first in range(1, 61, 12):
        scenario.put(*range(first, first + 10), size=300)
        scenario.put(first + 10, kind=Kind.EVENT, size=5_000)
        scenario.flush()
        scenario.acknowledge(4)
    with contextlib.suppress(StoreError):
        scenario.bench.store.checkpoint()
    scenario.acknowledge(2, Kind.EVENT)
    scenario.put(*range(101, 131), size=300)
    scenario.flush(2)
    scenario.settle()
    scenario.bench.outbox.close(130)


def salvage(scenario):
    """A damaged file is found at the start, new messages come while it is salvaged."""
    scenario.put(*range(1, 4), size=300)
    scenario.flush()
    scenario.put(4, size=300)
    scenario.settle()
    scenario.bench.outbox.close(4)


SCENARIOS = {"drive": drive, "salvage": salvage}


def record(name, folder):
    shim = Shim()
    shim.log(folder / "disk.log")
    SCENARIOS[name](Scenario(folder, shim))
    shim.log(None)


def fail(name, folder, kind, stride):
    number = 1 - stride
    failed = True
    while failed:
        number += stride
        copy = folder.with_name(f"{folder.name}-{number}")
        shutil.copytree(folder, copy)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            with os.fdopen(write, "w") as out:
                json.dump(_fail_once(name, copy, kind, number), out)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            said = told.read()
        os.waitpid(child, 0)
        found = json.loads(said or '{"failed": true, "crashed": true}')
        failed = found["failed"]
        sys.stdout.write(json.dumps({"number": number, "folder": str(copy), **found}) + "\n")


def _fail_once(name, folder, kind, number):
    shim = Shim()
    shim.fail(number, kind)
    scenario = Scenario(folder, shim)
    outbox = scenario.bench.outbox
    SCENARIOS[name](scenario)
    tally = outbox.tally()
    return {
        "failed": shim.failed(),
        "created": sorted(scenario.created),
        "acknowledged": sorted(scenario.acknowledged),
        "imbalance": tally.imbalance(),
        "dropped": tally.dropped,
    }


def main():
    logging.disable(logging.CRITICAL)
    what, name, folder, *more = sys.argv[1:]
    if what == "record":
        record(name, Path(folder))
    else:
        kind, stride = more
        fail(name, Path(folder), kind, int(stride))


if __name__ == "__main__":
    main()
