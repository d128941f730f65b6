"""What a board without a clock creates before it knows the time."""

import random
from datetime import timedelta

import pytest

from agent.control import readable
from agent.outbox import untimed
from agent.outbox.untimed import restamped
from contract import TimeQuality, decode_status
from tests.fakes.clockless_board import BEGIN, FLUSH_S, Board, Process

MAY_BE_LOST = FLUSH_S + 3
"""Samples, at one a second."""

PAGE_BYTES = 4096
RIGHT = timedelta(milliseconds=100)
UNSYNCED = TimeQuality.UNSYNCED


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def check_right(received, truths, quality=TimeQuality.GPS):
    """Each of ``truths`` was received with its true time, as was the fix in it."""
    assert received.keys() >= truths.keys()
    for key, truth in truths.items():
        message = received[key]
        assert abs(message.timestamp - truth) < RIGHT, key
        assert message.time_quality is quality
        if message.location is not None:
            assert abs(message.location.fix_time - truth) < timedelta(seconds=1.2)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("batch_s", [0, 10])
def test_after_ten_minutes_without_a_time_all_samples_and_events_are_right(
    board, connected, batch_s
):
    agent = Process(board, "0000000a", connected=connected, batch_s=batch_s)
    agent.run(300)
    agent.something_happens()
    agent.run(300)
    assert agent.received() == {}
    before = dict(agent.truths)
    assert len(before) > 600
    agent.run(60, fix_delay_s=0.05)
    agent.connect()
    check_right(agent.received(), before)
    assert {key[1] for key in before} == set(range(1, len(before) + 1))
    assert agent.outbox.tally().imbalance() == 0


def test_ntp_makes_the_time_known_too(board):
    agent = Process(board, "0000000a")
    agent.run(120)
    board.system_error = timedelta(0)
    board.synchronised = True
    agent.run(60)
    check_right(agent.received(), {**agent.truths}, TimeQuality.NTP)


def test_a_status_says_meanwhile_that_the_time_is_not_known(board):
    agent = Process(board, "0000000a")
    agent.run(10)
    statuses = [decode_status(one.payload) for one in agent.transport.acknowledged]
    assert statuses[-1].time_quality is UNSYNCED
    assert agent.delivery.account()["waits_for_time"]
    agent.run(10, fix_delay_s=0.0)
    assert not agent.delivery.account()["waits_for_time"]
    assert agent.delivery.account()["time_quality"] == "gps"


def test_a_restart_in_the_same_boot_loses_nothing_of_it(board):
    first = Process(board, "0000000a", connected=False)
    first.run(300)
    board.crash()
    board.advance(20)
    second = Process(board, "0000000b", connected=False)
    second.run(300)
    second.run(10, fix_delay_s=0.0)
    second.connect()
    kept = second.received_of(first)
    assert len(kept) >= len(first.truths) - MAY_BE_LOST
    check_right(second.received(), {**kept, **second.truths})


def test_a_restart_after_the_time_was_known_puts_right_what_was_left(board):
    first = Process(board, "0000000a", connected=False)
    first.run(100)
    board.crash()
    board.synchronised = True
    board.system_error = timedelta(0)
    second = Process(board, "0000000b")
    assert second.clock.quality() is TimeQuality.NTP
    second.run(60)
    kept = second.received_of(first)
    assert len(kept) >= len(first.truths) - MAY_BE_LOST
    check_right(second.received(), kept, TimeQuality.NTP)


def test_a_process_knows_the_time_that_an_earlier_one_of_the_boot_knew(board):
    first = Process(board, "0000000a")
    first.run(10, fix_delay_s=0.0)
    board.crash()
    board.advance(3600)
    second = Process(board, "0000000b")
    second.run(10)
    check_right(second.received(), second.truths)


def test_after_a_power_cut_the_boot_before_is_flagged_and_not_guessed(board):
    first = Process(board, "0000000a", connected=False)
    first.run(300)
    board.power_cut(off_s=3600)
    second = Process(board, "0000000b")
    second.run(60)
    flagged = second.received()
    assert {run_id for run_id, _ in flagged} == {"0000000a"}, "this boot still waits"
    assert len(flagged) >= len(first.truths) - MAY_BE_LOST
    for key, message in flagged.items():
        assert message.time_quality is UNSYNCED
        assert abs(message.timestamp - (first.truths[key] - (BEGIN - board.system_start))) < RIGHT
    second.run(60, fix_delay_s=0.0)
    right = {key: one for key, one in second.received().items() if key[0] == "0000000b"}
    check_right(right, second.truths)
    assert {key: one for key, one in second.received().items() if key[0] == "0000000a"} == flagged


def test_a_power_cut_after_the_time_was_known_takes_nothing_from_it(board):
    first = Process(board, "0000000a", connected=False)
    first.run(300)
    first.run(10, fix_delay_s=0.0)
    board.power_cut()
    second = Process(board, "0000000b")
    second.run(60)
    kept = second.received_of(first)
    assert len(kept) >= len(first.truths) - MAY_BE_LOST
    check_right(second.received(), kept)


def test_a_crash_in_the_middle_of_the_re_stamping_shifts_nothing_twice(board, monkeypatch):
    monkeypatch.setattr(untimed, "CHUNK_ROWS", 30)
    first = Process(board, "0000000a", connected=False)
    first.run(300)
    board.system_error, board.synchronised = timedelta(0), True
    board.advance(31)
    first.outbox.flush()
    first.delivery.time_watch.look()
    assert all(first.outbox.restamp() for _ in range(4))
    board.crash()
    second = Process(board, "0000000b", connected=False)
    assert second.outbox.restamp()
    board.crash()
    third = Process(board, "0000000c")
    third.run(120)
    kept = third.received_of(first)
    assert len(kept) >= 298
    check_right(third.received(), kept, TimeQuality.NTP)


def test_live_samples_go_at_once_while_the_disk_is_still_re_stamped(board, monkeypatch):
    monkeypatch.setattr(untimed, "CHUNK_ROWS", 1)
    agent = Process(board, "0000000a")
    agent.run(200)
    agent.run(20, fix_delay_s=0.0)
    assert agent.outbox.waiting() > 50
    newest = max(agent.truths)
    assert newest in agent.received()
    agent.run(120)
    check_right(agent.received(), {**agent.truths})


def test_the_wait_ends_for_a_vehicle_that_never_gets_a_time(board):
    agent = Process(board, "0000000a", hold_unsynced_s=120)
    agent.run(100)
    assert agent.received() == {}
    agent.run(60)
    flagged = agent.received()
    assert flagged.keys() == agent.truths.keys()
    assert {message.time_quality for message in flagged.values()} == {UNSYNCED}


def test_what_is_still_here_when_the_time_comes_late_is_re_stamped(board):
    agent = Process(board, "0000000a", connected=False, hold_unsynced_s=60)
    agent.run(300)
    agent.run(20, fix_delay_s=0.0)
    agent.connect()
    check_right(agent.received(), {**agent.truths})


def test_without_a_hold_nothing_waits(board):
    agent = Process(board, "0000000a", hold_unsynced_s=0)
    agent.run(10)
    assert agent.received().keys() == agent.truths.keys()


def test_a_step_of_the_system_s_clock_before_the_time_is_known_moves_nothing(board):
    agent = Process(board, "0000000a")
    agent.run(60)
    board.system_error += timedelta(days=300)
    agent.run(60)
    board.system_error -= timedelta(days=9000)
    agent.run(60)
    agent.run(30, fix_delay_s=0.0)
    check_right(agent.received(), {**agent.truths})


def test_a_suspend_before_the_first_fix_is_counted(board):
    agent = Process(board, "0000000a")
    agent.run(60)
    board.advance(8 * 3600)
    agent.run(60)
    agent.run(30, fix_delay_s=0.0)
    check_right(agent.received(), {**agent.truths})


def test_a_receiver_1024_weeks_ago_puts_the_samples_before_it_right(board):
    agent = Process(board, "0000000a")
    agent.run(60)
    for _ in range(10):
        agent.turn(agent.fix(timedelta(weeks=1024).total_seconds()))
        agent.run(0.5)
    agent.run(20)
    check_right(agent.received(), {**agent.truths})


def test_an_orderly_stop_does_not_wait_for_what_may_not_go(board):
    agent = Process(board, "0000000a")
    agent.run(30)
    assert agent.outbox.waiting() > 20
    assert not agent.outbox.anything_to_send()


def test_a_sample_that_was_just_made_when_the_time_became_known_is_right_too(board):
    agent = Process(board, "0000000a")
    made = []
    agent.delivery.record_sample = made.append
    agent.turn()
    del agent.delivery.record_sample
    board.system_error, board.synchronised = timedelta(0), True
    board.advance(31)
    agent.delivery.time_watch.look()
    agent.delivery.record_sample(made[0])
    agent.run(5)
    assert made[0].time_quality is UNSYNCED
    check_right(agent.received(), {**agent.truths}, TimeQuality.NTP)


def test_a_damaged_or_trusted_payload_is_not_shifted():
    assert restamped(b"{", 1000, TimeQuality.GPS) is None
    assert restamped(b"[]", 1000, TimeQuality.GPS) is None
    assert restamped(b'{"timestamp": 5, "time_quality": "unsynced"}', 1000, TimeQuality.GPS) is None
    trusted = b'{"timestamp":"1970-01-01T00:00:01.000Z","time_quality":"ntp"}'
    assert restamped(trusted, 1000, TimeQuality.GPS) == (1000, trusted)


def test_fields_of_a_newer_version_pass_through_the_re_stamping():
    payload = (
        '{"timestamp":"1970-01-01T00:00:01.250Z","time_quality":"unsynced","néw":[1.5,{"a":null}],'
        '"location":{"lat":1e-7,"fix_time":"1970-01-01T00:00:00.000Z"}}'
    ).encode()
    taken_ms, changed = restamped(payload, 86_400_000, TimeQuality.NTP)
    assert taken_ms == 86_401_250
    assert changed.decode() == (
        '{"timestamp":"1970-01-02T00:00:01.250Z","time_quality":"ntp","néw":[1.5,{"a":null}],'
        '"location":{"lat":1e-07,"fix_time":"1970-01-02T00:00:00.000Z"}}'
    )


def test_what_a_damaged_outbox_gives_back_is_re_stamped_too(board):
    agent = Process(board, "0000000a", connected=False)
    agent.run(300)
    agent.outbox.flush()
    agent.outbox._store.checkpoint()
    with (board.state / "outbox.db").open("r+b") as file:
        file.seek(20 * PAGE_BYTES)
        file.write(b"\xff" * 3 * PAGE_BYTES)
    agent.outbox._store._writer.execute("PRAGMA shrink_memory")
    agent.run(300)
    agent.run(60, fix_delay_s=0.0)
    agent.connect()
    agent.run(120)
    lost = agent.outbox.tally().dropped["damaged"]
    assert 0 < lost < 100
    kept = agent.received_of(agent)
    assert len(kept) == len(agent.truths) - lost
    check_right(agent.received(), kept)


def test_the_first_look_at_a_clock_that_is_right_from_the_start_holds_nothing(board):
    board.system_error, board.synchronised = timedelta(0), True
    agent = Process(board, "0000000a")
    agent.run(5)
    check_right(agent.received(), agent.truths, TimeQuality.NTP)


def test_old_and_new_boots_take_turns_and_each_message_is_right_or_flagged(board):
    """Many short boots, some with a time and some without, restarts and cuts at random."""
    dice = random.Random(11)
    told, truths = {}, {}
    for number in range(1, 25):
        agent = Process(board, f"{number:08x}", connected=dice.random() < 0.4)
        agent.run(dice.choice([5, 40, 90]))
        knows = dice.random() < 0.5
        if knows:
            agent.run(dice.choice([4, 30]), fix_delay_s=0.05)
        truths |= agent.truths
        for key, message in agent.received().items():
            assert told.setdefault(key, message) == message, "one message, two contents"
        if dice.random() < 0.5:
            board.power_cut(dice.choice([1.0, 5000.0]))
        else:
            board.crash()
    last = Process(board, "0000ffff")
    last.run(90, fix_delay_s=0.05)
    told |= last.received()
    errors = {key: abs(told[key].timestamp - truth) for key, truth in truths.items() if key in told}
    trusted = [key for key in errors if told[key].time_quality is not UNSYNCED]
    assert len(trusted) > 300
    assert max(errors[key] for key in trusted) < RIGHT
    assert len(errors) - len(trusted) > 0


def test_the_status_for_a_person_says_whether_the_time_is_known(board):
    agent = Process(board, "0000000a")
    assert "time         unsynced, messages wait for GPS or NTP" in readable(
        agent.delivery.account()
    )
    agent.run(10, fix_delay_s=0.0)
    assert "time         gps\n" in readable(agent.delivery.account())
