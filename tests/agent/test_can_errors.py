"""What a CAN controller says of itself: warnings, error-passive, bus-off and the way back."""

import pytest

from agent.sources.can.errors import BusState, advice, is_overflow, state_after

ACTIVE, WARNING, PASSIVE, OFF = BusState


@pytest.mark.parametrize(
    ("before", "error_class", "controller", "after"),
    [
        (ACTIVE, 0x040, 0x00, OFF),
        (OFF, 0x100, 0x00, ACTIVE),
        (ACTIVE, 0x004, 0x04, WARNING),
        (ACTIVE, 0x004, 0x08, WARNING),
        (WARNING, 0x004, 0x10, PASSIVE),
        (WARNING, 0x004, 0x20, PASSIVE),
        (PASSIVE, 0x004, 0x40, ACTIVE),
        (PASSIVE, 0x004, 0x08, WARNING),
        (PASSIVE, 0x004, 0x01, PASSIVE),
        (PASSIVE, 0x088, 0x00, PASSIVE),
        (ACTIVE, 0x204, 0x30, PASSIVE),
        (OFF, 0x040, 0x00, OFF),
    ],
)
def test_error_frames_move_the_state_as_the_kernel_means_them(
    before, error_class, controller, after
):
    data = bytes([0, controller, 0, 0, 0, 0, 96, 0])
    assert state_after(before, error_class, data) is after


def test_a_report_that_is_cut_off_changes_nothing():
    assert state_after(PASSIVE, 0x004, b"\0") is PASSIVE
    assert not is_overflow(0x004, b"")


def test_an_overflow_of_the_controller_is_told_apart():
    assert is_overflow(0x004, bytes([0, 1, 0, 0, 0, 0, 0, 0]))
    assert not is_overflow(0x004, bytes([0, 2, 0, 0, 0, 0, 0, 0]))
    assert not is_overflow(0x040, bytes([0, 1, 0, 0, 0, 0, 0, 0]))


def test_bus_off_comes_with_the_command_that_lets_it_return():
    assert "ip link set can3 type can restart-ms 100" in advice(OFF, "can3")
    assert "termination" in advice(PASSIVE, "can3")
