"""The rig's own parts: its disk loses what a disk may lose, its account finds a loss."""

import json
import random
import shutil
import socket
import struct
import subprocess
from datetime import UTC, datetime

import pytest

from contract import Sample, TimeQuality, encode
from tests.rigs.board import recipe
from tests.rigs.board.architectures import AMD64, ARCHITECTURES, ARM64
from tests.rigs.board.channel import _epochs_with_fix, _stamped
from tests.rigs.board.disk import (
    BLOCK_BYTES,
    CACHE_BYTES,
    SECTOR_BYTES,
    Fate,
    PowerGoneError,
    VolatileDisk,
)
from tests.rigs.board.image import enable_and_mask
from tests.rigs.board.ledger import Received, Witness, balance
from tests.rigs.board.nbd import NbdServer
from tests.rigs.board.recipe import DRIVE_NMEA, drive_candump

SIZE = 16 * BLOCK_BYTES


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "disk"
    file.write_bytes(bytes(SIZE))
    return file


@pytest.fixture
def disk(path):
    made = VolatileDisk(path)
    yield made
    made.close()


def test_an_unflushed_write_is_read_back_and_lost_with_the_power(disk):
    disk.write(100, b"x" * 5000)
    assert disk.read(99, 5002) == b"\0" + b"x" * 5000 + b"\0"
    damage = disk.power_cut(Fate.LOST, random.Random(1))
    assert (damage.unflushed_writes, damage.unflushed_bytes, damage.lost) == (1, 5000, 1)
    assert disk.read(0, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("fate", list(Fate))
def test_a_flushed_write_survives_whole_whatever_came_after_it(disk, fate):
    disk.write(BLOCK_BYTES, b"a" * BLOCK_BYTES)
    disk.flush()
    disk.write(2 * BLOCK_BYTES, b"b" * BLOCK_BYTES)
    disk.power_cut(fate, random.Random(2))
    assert disk.read(BLOCK_BYTES, BLOCK_BYTES) == b"a" * BLOCK_BYTES


def test_a_cut_tears_between_sectors_and_never_in_one(disk):
    outcomes = set()
    for seed in range(40):
        disk.write(0, b"n" * SIZE)
        damage = disk.power_cut(Fate.TORN, random.Random(seed))
        data = disk.read(0, SIZE)
        sectors = {data[i : i + SECTOR_BYTES] for i in range(0, SIZE, SECTOR_BYTES)}
        assert sectors <= {b"n" * SECTOR_BYTES, bytes(SECTOR_BYTES)}
        outcomes.add((damage.lost, damage.arrived, damage.torn))
        if damage.torn:
            assert len(sectors) == 2
        disk.write(0, bytes(SIZE))
        disk.flush()
    assert outcomes == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}


def test_a_later_write_may_arrive_though_an_earlier_one_is_lost(disk):
    found = set()
    for seed in range(60):
        disk.write(0, b"1" * SECTOR_BYTES)
        disk.write(BLOCK_BYTES, b"2" * SECTOR_BYTES)
        disk.power_cut(Fate.TORN, random.Random(seed))
        found.add((disk.read(0, 1), disk.read(BLOCK_BYTES, 1)))
        disk.write(0, bytes(SIZE))
        disk.flush()
    assert (b"\0", b"2") in found


def test_a_full_cache_empties_itself(tmp_path):
    file = tmp_path / "big"
    with file.open("wb") as sparse:
        sparse.truncate(2 * CACHE_BYTES)
    disk = VolatileDisk(file)
    for offset in range(0, CACHE_BYTES + 1, 1 << 20):
        disk.write(offset, b"z" * (1 << 20))
    assert disk.power_cut(Fate.LOST, random.Random(3)).unflushed_writes == 0
    assert disk.read(0, 4) == b"zzzz"
    disk.close()


def test_what_the_guest_flushes_over_nbd_is_durable_and_the_rest_is_not(disk, tmp_path):
    server = NbdServer(disk, tmp_path / "nbd")
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "nbd"))
    files = client.makefile("rwb", buffering=0)

    def read(length):
        data = b""
        while len(data) < length:
            data += files.read(length - len(data))
        return data

    def request(kind, offset=0, length=0, payload=b"", flags=0):
        head = struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, length)
        files.write(head + payload)
        if kind == 2:
            return None
        magic, error, handle = struct.unpack(">IIQ", read(16))
        assert (magic, handle) == (0x67446698, 7)
        return error, read(length) if kind == 0 and not error else b""

    assert read(18)[:16] == b"NBDMAGICIHAVEOPT"
    files.write(struct.pack(">I", 3) + struct.pack(">8sII", b"IHAVEOPT", 1, 0))
    assert struct.unpack(">QH", read(10))[0] == SIZE
    assert request(1, 0, 512, b"f" * 512) == (0, b"")
    assert request(3) == (0, b"")
    assert request(1, 512, 512, b"u" * 512) == (0, b"")
    assert request(1, 1024, 512, b"F" * 512, flags=1) == (0, b"")
    assert request(1, 1536, 512, b"v" * 512) == (0, b"")
    assert request(0, 0, 2048)[1] == b"".join(byte * 512 for byte in (b"f", b"u", b"F", b"v"))
    assert request(0, SIZE, 512)[0] == 22
    request(2)
    assert server.wait_idle()
    client.close()
    disk.power_cut(Fate.LOST, random.Random(4))
    # FUA settles what came before it too, which a real cache may do
    assert disk.read(0, 2048) == b"f" * 512 + b"u" * 512 + b"F" * 512 + bytes(512)
    server.close()


class Listener:
    def __init__(self):
        self.messages = []

    def get(self, *sequences, run_id="aaaaaaaa"):
        for sequence in sequences:
            sample = Sample(
                vehicle_id="v",
                run_id=run_id,
                sequence=sequence,
                timestamp=datetime(2026, 1, 1, tzinfo=UTC),
                time_quality=TimeQuality.GPS,
            )
            self.messages.append(("telemetry/v", encode(sample)))


def told(sequence, acknowledged=0):
    return {
        "run_id": "aaaaaaaa",
        "last_sequence": sequence,
        "samples_acknowledged": acknowledged,
        "events_acknowledged": 0,
        "asked_s": 0.9,
        "boot_s": 1.0,
    }


def account(arrived, acknowledged=0):
    """Three samples, one a second, and a cut half a second after the third; grace 1 s."""
    witness, listener = Witness(), Listener()
    witness.begin_boot()
    for second in (1, 2, 3):
        witness.take(told(second, acknowledged), float(second))
    witness.end_boot(3.5, 1.0)
    listener.get(*arrived)
    return balance(witness, Received(listener).update(), {1: 3.5})


def test_the_account_balances_when_all_that_is_owed_arrived():
    found = account([1, 2])
    assert found.faults == ()
    assert (found.owed, found.received, found.lost_young, found.oldest_lost_s) == (2, 2, 1, 0.5)


def test_the_account_finds_a_message_that_is_owed_and_missing():
    (fault,) = account([1, 3]).faults
    assert "1 of 2 owed messages are missing, 2 to 2" in fault


def test_the_account_finds_what_was_acknowledged_and_never_came():
    (fault,) = account([1, 2], acknowledged=3).faults
    assert "3 acknowledged, only 2 received" in fault


def test_the_account_counts_what_came_twice():
    assert account([1, 2, 2, 1]).duplicates == 2


def test_the_account_finds_drops_and_broken_messages():
    witness, listener = Witness(), Listener()
    listener.messages.append(("telemetry/v", b"{"))
    status = {
        "vehicle_id": "v",
        "run_id": "aaaaaaaa",
        "state": "online",
        "timestamp": "2026-01-01T00:00:00Z",
        "time_quality": "gps",
        "dropped_messages": {"thinned": 3},
    }
    listener.messages.append(("status/v", json.dumps(status).encode()))
    broken, dropped = balance(witness, Received(listener).update(), {}).faults
    assert broken.startswith("a broken message: telemetry/v")
    assert dropped == "dropped: {'thinned': 3}"


def test_the_receivers_sentences_carry_the_present_time_and_a_good_checksum():
    epoch = _epochs_with_fix(DRIVE_NMEA)[0]
    lines = [_stamped(line, datetime(2026, 2, 3, 4, 5, 6, 780_000, UTC)) for line in epoch]
    assert lines[0].startswith("$GNRMC,040506.78,A,")
    assert ",030226," in lines[0]
    for line in lines:
        body, _, checksum = line[1:].partition("*")
        total = 0
        for byte in body.encode():
            total ^= byte
        assert int(checksum, 16) == total


def test_the_guests_drive_begins_with_the_trip_and_has_no_comments():
    lines = drive_candump().splitlines()
    assert lines[0].startswith("(")
    in_use = next(line for line in lines if " 120#" in line)
    assert int(in_use.split("#")[1][:2], 16) & 1


def test_an_aimed_cut_waits_for_an_unflushed_write_and_answers_nothing_after_it(disk):
    disk.darken()
    disk.power_cut(Fate.LOST, random.Random(5))
    disk.write(0, b"x" * SECTOR_BYTES)
    disk.darken(aim_s=60)
    for request in (lambda: disk.read(0, 1), lambda: disk.write(0, b"y"), disk.flush):
        with pytest.raises(PowerGoneError):
            request()
    assert disk.power_cut(Fate.LOST, random.Random(5)).unflushed_writes == 1
    assert disk.read(0, 1) == b"\0"


@pytest.mark.needs("systemctl")
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_guests_units_are_enabled_and_masked_as_systemctl_sees_it(tmp_path, architecture):
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in recipe.ENABLED:
        shutil.copy(recipe.GUEST / name, units)
    enable_and_mask(tmp_path, architecture)

    def states(names):
        command = ["systemctl", f"--root={tmp_path}", "is-enabled", *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(done.stdout.split())

    assert states(recipe.ENABLED) == {"enabled"}
    assert states(recipe.masked(architecture)) == {"masked"}


def test_each_architecture_has_packages_and_layers_of_its_own():
    for named in (recipe.debs, recipe.packages, recipe.base_digest, recipe.sources_digest):
        assert named(AMD64) != named(ARM64)
