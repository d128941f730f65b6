"""Damage: torn, short and zeroed files open, are salvaged, and the loss is told."""

import errno
import itertools
import json
import logging
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.outbox import DropReason, Kind
from agent.outbox.run_drops import DropTotal
from agent.outbox.salvage_jobs import kept_files
from agent.outbox.verify import verify
from tests.fakes.outbox_bench import RUN, Bench, sequences

PAGE = 4096
FRAME = PAGE + 24


def settle(bench, rounds=60):
    """Let the outbox find the damage and end its salvage."""
    for _ in range(rounds):
        bench.outbox.give_back(bench.backlog(5_000))
        bench.outbox.give_back(bench.backlog(100, Kind.EVENT))
        bench.clock.advance(2.5)
        bench.outbox.flush()
        if not bench.outbox._writer._salvage.waits() and bench.outbox.in_salvage() == 0:
            break
    assert bench.outbox.tally().imbalance() == 0


def saved(bench):
    return sorted(set(bench.on_disk()))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A file of 300 samples and 20 events, all in the database, and 200 more in its log."""
    folder = tmp_path_factory.mktemp("original") / "state"
    bench = Bench(folder)
    bench.put(*range(1, 301), size=400)
    bench.put(*range(1001, 1021), kind=Kind.EVENT, size=5_000)  # with overflow pages
    bench.flush()
    bench.store.checkpoint()
    for first in range(301, 501, 20):
        bench.put(*range(first, first + 20), size=400)
        bench.flush()
    copy = bench.copy_as_after_a_power_cut(folder.with_name("copy"))
    bench.outbox.close()
    return copy


def damaged_copy(original, folder, change):
    shutil.copytree(original, folder)
    change(folder / "outbox.db", folder / "outbox.db-wal")
    return folder


def pages_of(original):
    return (original / "outbox.db").stat().st_size // PAGE


def frames_of(original):
    return ((original / "outbox.db-wal").stat().st_size - 32) // FRAME


def test_a_database_with_any_one_page_zeroed_opens_and_gives_back_all_other_rows(
    original, tmp_path
):
    for page in range(pages_of(original)):

        def zero(db, _, page=page):
            with db.open("r+b") as file:
                file.seek(page * PAGE)
                file.write(bytes(PAGE))

        bench = Bench(damaged_copy(original, tmp_path / f"{page}", zero), run_id="00000002")
        settle(bench)
        kept, events = saved(bench), bench.on_disk(Kind.EVENT)
        tally = bench.outbox.tally()
        missing = 500 - len(kept) + 20 - len(set(events))
        assert missing <= 10, f"page {page}"
        assert len(kept) >= 490, f"page {page}"
        if tally.dropped:
            assert tally.dropped == {DropReason.DAMAGED: missing}, f"page {page}"
        bench.put(1)
        bench.flush()
        # SQLite keeps no checksums: zeros within a long payload are found by reading it
        found = verify(bench.path)
        assert found.sound or (found.bad_messages == 1 and len(found.errors) == 1), f"page {page}"
        bench.outbox.close()


def test_a_database_cut_at_every_page_opens_and_gives_back_what_is_there(original, tmp_path):
    log_alone = 200
    for page in range(pages_of(original)):

        def cut(db, _, page=page):
            with db.open("r+b") as file:
                file.truncate(page * PAGE)

        bench = Bench(damaged_copy(original, tmp_path / f"{page}", cut), run_id="00000002")
        settle(bench)
        kept = saved(bench)
        assert len(kept) >= log_alone - 10, f"cut at page {page}"
        assert kept[-1] == 500, f"cut at page {page}"
        whole_pages_rows = max(0, page - 20) * 5
        assert len(kept) >= min(500, log_alone - 10 + whole_pages_rows - 90), f"cut at page {page}"
        assert verify(bench.path).sound
        bench.outbox.close()


def test_a_log_cut_at_every_frame_loses_only_what_was_committed_behind_it(original, tmp_path):
    with sqlite3.connect(f"file:{original / 'outbox.db'}?mode=ro&immutable=1", uri=True) as db:
        in_database = db.execute("SELECT count(*) FROM samples").fetchone()[0]
    assert in_database == 300
    least = 300
    for frame in range(frames_of(original) + 1):

        def cut(_, log, frame=frame):
            with log.open("r+b") as file:
                file.truncate(32 + frame * FRAME)

        bench = Bench(damaged_copy(original, tmp_path / f"{frame}", cut), run_id="00000002")
        settle(bench)
        kept = saved(bench)
        assert kept == list(range(1, len(kept) + 1)), f"cut at frame {frame}"
        assert (len(kept) - 300) % 20 == 0
        assert len(kept) >= least
        least = len(kept)
        assert len(bench.on_disk(Kind.EVENT)) == 20
        bench.outbox.close()
    assert least == 500


def test_a_log_with_any_one_frame_zeroed_loses_that_frame_alone(original, tmp_path):
    for frame in range(0, frames_of(original), 3):

        def zero(_, log, frame=frame):
            with log.open("r+b") as file:
                file.seek(32 + frame * FRAME)
                file.write(bytes(FRAME))

        bench = Bench(damaged_copy(original, tmp_path / f"{frame}", zero), run_id="00000002")
        settle(bench)
        assert len(saved(bench)) >= 480, f"frame {frame}"
        assert len(bench.on_disk(Kind.EVENT)) == 20
        bench.outbox.close()


def damage(path, pages):
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(b"\xff" * PAGE)


def test_damage_found_while_running_costs_the_rows_of_the_bad_pages_alone(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    bench = Bench(tmp_path)
    bench.put(*range(1, 1001), size=400)
    bench.flush()
    in_flight = bench.backlog(100)
    bench.store.checkpoint()
    damage(bench.path, range(40, 50))
    bench.put(2001)
    settle(bench)
    tally = bench.outbox.tally()
    lost = tally.dropped[DropReason.DAMAGED]
    assert 60 <= lost <= 100
    assert tally.waiting + lost == 1001
    assert f"{lost} lost" in caplog.text
    assert [file.name for file in kept_files(bench.path)] == ["outbox.db.salvaged-1"]
    bench.outbox.acknowledge(in_flight)
    sent = []
    while claimed := bench.backlog(300) or bench.outbox.claim_live(Kind.SAMPLE, 9):
        sent += sequences(claimed)
        bench.outbox.acknowledge(claimed)
    assert len(sent) == len(set(sent)) == 1001 - lost - 100
    assert not set(sent) & set(sequences(in_flight))
    assert sent[:-1] == sorted(sent[:-1])
    bench.flush()
    assert bench.outbox.waiting() == 0
    assert bench.outbox.take_unreported_drops() == [DropTotal("", "damaged", lost, 0, 0)]
    bench.outbox.close()


def test_new_messages_are_taken_and_sent_while_the_salvage_goes_on(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 3001), size=400)
    bench.flush()
    bench.store.checkpoint()
    damage(bench.path, range(30, 31))
    bench.backlog(3000)
    bench.clock.advance(1)
    bench.put(5001)
    bench.outbox.flush()
    assert bench.outbox.in_salvage() > 1000
    assert 5001 in bench.on_disk()
    assert bench.outbox.tally().imbalance() == 0
    assert bench.outbox.flush_in_s() <= 0.1
    settle(bench)
    assert bench.outbox.in_salvage() == 0
    assert len(bench.on_disk()) > 2980
    bench.outbox.close()


def test_a_salvage_that_a_power_cut_ends_goes_on_where_it_was(tmp_path):
    first = Bench(tmp_path / "first")
    first.put(*range(1, 3001), size=400)
    first.flush()
    first.store.checkpoint()
    damage(first.path, range(30, 31))
    first.backlog(3000)
    for _ in range(3):
        first.clock.advance(1)
        first.outbox.flush()
    limbo = first.outbox.in_salvage()
    assert 0 < limbo < 3000
    folder = first.copy_as_after_a_power_cut(tmp_path / "second")
    first.outbox.close()
    second = Bench(folder, run_id="00000002")
    settle(second)
    found = second.on_disk()
    assert len(found) == len(set(found))
    tally = second.outbox.tally()
    assert len(found) + tally.dropped[DropReason.DAMAGED] == 3000
    assert tally.dropped[DropReason.DAMAGED] <= 12
    second.outbox.close()


def test_deleted_rows_do_not_come_back_with_a_salvage(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 1001), size=400)
    bench.flush()
    bench.outbox.acknowledge(bench.backlog(500))
    bench.flush()
    bench.store.checkpoint()
    damage(bench.path, range(100, 101))
    settle(bench)
    assert min(bench.on_disk()) == 501
    assert bench.outbox.tally().imbalance() == 0
    bench.outbox.close()


def test_an_empty_file_beside_a_full_log_is_salvaged_from_the_log(tmp_path):
    first = Bench(tmp_path / "first")
    first.put(*range(1, 101))
    first.flush()
    folder = first.copy_as_after_a_power_cut(tmp_path / "second")
    first.outbox.close()
    (folder / "outbox.db").write_bytes(b"")
    second = Bench(folder, run_id="00000002")
    settle(second)
    assert second.on_disk() == list(range(1, 101))
    second.outbox.close()


def test_a_second_damage_during_a_salvage_loses_nothing_more(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 3001), size=400)
    bench.flush()
    bench.store.checkpoint()
    damage(bench.path, range(30, 31))
    bench.backlog(3000)
    for sequence in range(4001, 4004):
        bench.put(sequence, size=400)
        bench.clock.advance(1)
        bench.outbox.flush()
    assert bench.outbox.in_salvage() > 0
    bench.store.checkpoint()
    damage(bench.path, range(20, 21))
    settle(bench, 200)
    tally = bench.outbox.tally()
    assert len(set(bench.on_disk())) >= 2970
    assert tally.waiting == len(bench.on_disk())
    bench.outbox.close()


def test_verify_tells_a_sound_file_from_a_damaged_one(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 501), size=400)
    bench.put(501, kind=Kind.EVENT)
    bench.flush()
    found = verify(bench.path)
    assert found.sound
    assert found.messages == {"samples": 500, "events": 1}
    bench.outbox.close()
    with sqlite3.connect(bench.path) as db:
        db.execute("UPDATE samples SET payload = ? WHERE id = 7", [b'{"run_id":"x"'])
        db.execute("DELETE FROM samples WHERE id = 9")
    wrong = verify(bench.path)
    assert wrong.bad_messages == 1
    assert any("row 7" in line and RUN in line for line in wrong.errors)
    assert "are counted" in " ".join(wrong.errors) or wrong.messages["samples"] == 499
    damage(bench.path, range(30, 34))
    assert not verify(bench.path).sound
    assert json.dumps(verify(bench.path).as_json())


def test_a_drained_file_gives_its_space_back_in_small_steps(tmp_path):
    bench = Bench(tmp_path)
    bench.put(*range(1, 4001), size=900)
    bench.flush()
    while claimed := bench.backlog(1000):
        bench.outbox.acknowledge(claimed)
    bench.store.checkpoint()
    full = bench.path.stat().st_size
    sizes = []
    for _ in range(40):
        bench.clock.advance(0.5)
        bench.outbox.flush()
        bench.store.checkpoint()
        sizes.append(bench.path.stat().st_size)
    assert full > 3_900_000
    assert sizes[-1] < 1_300_000
    assert max(a - b for a, b in itertools.pairwise(sizes)) <= 66 * PAGE
    assert verify(bench.path).sound
    bench.outbox.close()


def test_a_file_that_cannot_be_renamed_at_once_is_set_aside_later(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    bench.put(*range(1, 301), size=400)
    bench.flush()
    bench.store.checkpoint()
    damage(bench.path, range(2, 3))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", broken_disk)
        for sequence in range(401, 404):
            bench.put(sequence)
            bench.backlog(300)
            bench.flush(3)
        assert kept_files(bench.path) == []
        assert bench.outbox.flush_in_s() > 0
    settle(bench)
    assert {401, 402, 403} <= set(bench.on_disk())
    assert len(set(bench.on_disk())) >= 290
    assert [file.name for file in kept_files(bench.path)] == ["outbox.db.salvaged-1"]
    bench.outbox.close()


def broken_disk(*_):
    raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def nearly_salvaged(tmp_path, monkeypatch):
    """An outbox that lost power between the end of a salvage and the file's new name."""
    first = Bench(tmp_path / "first")
    first.put(*range(1, 301), size=400)
    first.flush()
    first.store.checkpoint()
    damage(first.path, range(20, 21))
    first.backlog(300)
    folder = tmp_path / "second"

    def power_cut(file):
        if not folder.exists():
            first.copy_as_after_a_power_cut(folder)
        broken_disk()

    with monkeypatch.context() as patch:
        patch.setattr("agent.outbox.salvage.mark_salvaged", power_cut)
        for _ in range(4):
            first.clock.advance(2.5)
            first.outbox.flush()
    lost = first.outbox.tally().dropped[DropReason.DAMAGED]
    first.outbox.close()
    return folder, lost


def test_a_power_cut_at_the_end_of_a_salvage_brings_no_row_twice(nearly_salvaged):
    folder, lost = nearly_salvaged
    second = Bench(folder, run_id="00000002")
    settle(second)
    assert len(second.on_disk()) == len(set(second.on_disk())) == 300 - lost
    assert [file.name for file in kept_files(second.path)] == ["outbox.db.salvaged-1"]
    second.outbox.close()


def test_a_power_cut_at_the_end_of_a_salvage_does_not_swallow_what_was_lost(nearly_salvaged):
    folder, lost = nearly_salvaged
    assert lost > 0
    second = Bench(folder, run_id="00000002")
    settle(second)
    told = second.outbox.take_unreported_drops()
    assert [(one.reason, one.messages) for one in told] == [(DropReason.DAMAGED.value, lost)]
    second.outbox.close()


def test_a_database_cut_within_a_page_opens_and_gives_back_what_is_there(original, tmp_path):
    chance = random.Random(11)
    for page in range(0, pages_of(original), 4):
        size = page * PAGE + chance.randrange(1, PAGE)

        def cut(db, _, size=size):
            with db.open("r+b") as file:
                file.truncate(size)

        bench = Bench(damaged_copy(original, tmp_path / f"{page}", cut), run_id="00000002")
        settle(bench)
        assert {*range(311, 501)} <= set(saved(bench)), f"cut at byte {size}"
        assert verify(bench.path).sound
        bench.outbox.close()


def test_a_log_torn_within_any_frame_loses_only_what_was_committed_from_there(original, tmp_path):
    chance = random.Random(12)
    for frame in range(0, frames_of(original), 3):
        size = 32 + frame * FRAME + chance.randrange(1, FRAME)

        def tear(_, log, size=size):
            content = log.read_bytes()
            # the card had room for the file, and wrote only so much of it
            log.write_bytes(content[:size] + bytes(len(content) - size))

        bench = Bench(damaged_copy(original, tmp_path / f"{frame}", tear), run_id="00000002")
        settle(bench)
        kept = saved(bench)
        assert kept == list(range(1, len(kept) + 1)), f"torn at byte {size}"
        assert len(kept) >= 300
        assert len(bench.on_disk(Kind.EVENT)) == 20
        bench.outbox.close()


@pytest.mark.parametrize("part", ["outbox.db", "outbox.db-wal"])
def test_flipped_bits_never_keep_it_from_opening_and_cost_little(original, part, tmp_path):
    chance = random.Random(13)
    size = (original / part).stat().st_size
    for number in range(25):
        at, bit = chance.randrange(size), 1 << chance.randrange(8)

        def flip(db, log, at=at, bit=bit):
            with (db if part == "outbox.db" else log).open("r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ bit]))

        bench = Bench(damaged_copy(original, tmp_path / f"{number}", flip), run_id="00000002")
        settle(bench)
        there = len(saved(bench)) + len(set(bench.on_disk(Kind.EVENT)))
        assert there >= 520 - 40, f"bit {bit} of byte {at}"
        bench.put(1)
        bench.flush()
        assert 1 in bench.on_disk()
        bench.outbox.close()


def test_a_last_page_full_of_garbage_costs_no_more_than_its_own_rows(original, tmp_path):
    def spoil(db, _):
        with db.open("r+b") as file:
            file.seek(-PAGE, 2)
            file.write(random.Random(14).randbytes(PAGE))

    bench = Bench(damaged_copy(original, tmp_path / "copy", spoil), run_id="00000002")
    settle(bench)
    assert len(saved(bench)) >= 490
    assert len(set(bench.on_disk(Kind.EVENT))) >= 19
    bench.outbox.close()
