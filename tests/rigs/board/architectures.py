"""The architectures that a board can have here: one table of what differs between them."""

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A virtual board of one of Debian's architectures."""

    debian: str
    machine: str
    """As the kernel calls it."""
    program: str
    """QEMU's."""
    options: tuple[str, ...]
    """That make QEMU's default machine, and its processor, the board's."""
    kernel: str
    """Debian's package of it."""
    console: str
    """The serial port of the kernel's console."""
    gps: tuple[str, ...]
    """QEMU's options for the serial port that the receiver is on, which has the chardev ``gps``."""
    gps_device: str
    """What the guest calls that port."""
    apt_packages: str
    """The list of ``.ci/apt-packages`` with what this machine needs for it."""

    @property
    def foreign(self):
        """Whether this machine's processor runs none of its programs."""
        return platform.machine() != self.machine


AMD64 = Architecture(
    debian="amd64",
    machine="x86_64",
    program="qemu-system-x86_64",
    options=(),
    kernel="linux-image-amd64",
    console="ttyS0",
    gps=("-serial", "chardev:gps"),
    gps_device="/dev/ttyS1",
    apt_packages="rig",
)
ARM64 = Architecture(
    debian="arm64",
    machine="aarch64",
    program="qemu-system-aarch64",
    # the processor of a Raspberry Pi 4
    options=("-machine", "virt", "-cpu", "cortex-a72"),
    kernel="linux-image-arm64",
    console="ttyAMA0",
    # this machine has one port of its own, and the console is on it
    gps=("-device", "pci-serial,chardev=gps"),
    gps_device="/dev/ttyS0",
    apt_packages="rig-arm",
)
ARMHF = Architecture(
    debian="armhf",
    machine="armv7l",
    program="qemu-system-arm",
    # a kernel without LPAE reaches no device above 4 GB
    options=("-machine", "virt,highmem=off", "-cpu", "cortex-a15"),
    kernel="linux-image-armmp",
    console="ttyAMA0",
    gps=("-device", "pci-serial,chardev=gps"),
    gps_device="/dev/ttyS0",
    apt_packages="rig-arm",
)
ARCHITECTURES = {one.debian: one for one in (AMD64, ARM64, ARMHF)}
