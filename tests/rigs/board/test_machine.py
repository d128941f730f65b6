"""The rig's machine, with the real QEMU: a boot that stands still is switched off and on."""

import random
import struct
from types import SimpleNamespace

import pytest

from tests.fakes.one_machine import wait_until
from tests.rigs.board.architectures import AMD64
from tests.rigs.board.disk import BLOCK_BYTES
from tests.rigs.board.errors import RigError
from tests.rigs.board.machine import STALLS, Machine

pytestmark = pytest.mark.needs(AMD64.program)

STANDS_STILL = bytes.fromhex("fa f4 eb fd")
"""cli; hlt; again, if it ever wakes."""
SPEAKS = bytes.fromhex("66 ba f8 03  b0 2e  ee  b9 00 00 10 00  49  75 fd  eb f3")
"""A dot to the first serial port, a while of counting, and again."""


def kernel(code):
    """A kernel that is this code: an image with a header of the Multiboot specification 0.6.96."""
    load, flags, magic = 0x10_0000, 1 << 16, 0x1BAD_B002
    header_bytes = 32
    entry, end = load + header_bytes, load + header_bytes + len(code)
    head = (magic, flags, -(magic + flags) & 0xFFFF_FFFF, load, load, end, end, entry)
    return struct.pack("<8I", *head) + code


@pytest.fixture
def machine_of(tmp_path):
    made = []

    def make(code):
        folder = tmp_path / "machine"
        folder.mkdir()
        image = SimpleNamespace(
            architecture=AMD64,
            kernel=tmp_path / "vmlinuz",
            initrd=tmp_path / "initrd",
            disk=tmp_path / "disk.img",
        )
        image.kernel.write_bytes(kernel(code))
        image.initrd.write_bytes(bytes(512))
        image.disk.write_bytes(bytes(BLOCK_BYTES))
        made.append(Machine(image, folder, accel="tcg", random=random.Random(1)))
        made[-1].boot()
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def test_a_boot_that_stands_still_is_switched_off_and_on_and_told_and_given_up_in_the_end(
    machine_of,
):
    machine = machine_of(STANDS_STILL)
    with pytest.raises(RigError, match="helper did not come up"):
        machine.wait_up(timeout_s=3, stall_s=0.5)
    assert (machine.boots, len(machine.stalls)) == (1 + STALLS, STALLS)
    for told in machine.stalls:
        assert "VM status: running" in told
        assert "CPU#0\nEIP=" in told


def test_a_boot_that_still_speaks_is_waited_for(machine_of):
    machine = machine_of(SPEAKS)
    wait_until(lambda: machine.console.stat().st_size, "its first word", 60)
    with pytest.raises(RigError, match="helper did not come up"):
        machine.wait_up(timeout_s=6, stall_s=4)
    assert (machine.boots, machine.stalls) == (1, [])
    assert set(machine.console_tail()) == {"."}
