"""What the guest is made of, and a digest of all of it: the image's name in the cache."""

import hashlib
from pathlib import Path

from package import deb
from package.cli import project_version
from package.platforms import PLATFORMS

SUITE = "bookworm"
PACKAGES = (
    "can-utils",
    "chrony",
    "gpsd",
    "iproute2",
    "kmod",
    "procps",
    "python3-venv",
    "systemd-sysv",
    "udev",
)
VERSIONS = (project_version(), f"{project_version()}+rig2")
"""Of this source tree, and of the same one as an upgrade."""

SHELF = "opt/rig/packages"
"""Where the packages lie in a guest that has the agent not installed."""

INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
"""All that the root file system and the journal's console need.

A third of the usual size, seconds less under emulation.
"""

INITRD_TEXTS = {
    "etc/initramfs-tools/conf.d/rig": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/rig": "".join(f"{name}\n" for name in INITRD_MODULES),
}
DISK_SIZE = "2G"
ROOT = Path(__file__).resolve().parents[3]
GUEST = Path(__file__).resolve().parent / "guest"
SECOND_STAGE = GUEST / "second-stage.sh"
CONFIG = GUEST / "agent.toml"
DBC = ROOT / "firmware-config/dbc/milepost-demo.dbc"
DRIVE_CAN = ROOT / "simulator/traces/default.candump"
DRIVE_NMEA = ROOT / "simulator/traces/default.nmea"
SKIPPED_CAN_S = 9.0
"""Until the drive's vehicle is in use, so that a trip begins with the boot."""

FILES = {
    GUEST / "helper.py": "opt/rig/helper.py",
    GUEST / "rig-network.service": "etc/systemd/system/rig-network.service",
    GUEST / "rig-can.service": "etc/systemd/system/rig-can.service",
    GUEST / "rig-helper.service": "etc/systemd/system/rig-helper.service",
    GUEST / "journald.conf": "etc/systemd/journald.conf.d/rig.conf",
}
TEXTS = {
    "etc/hostname": "rig\n",
    "etc/fstab": "/dev/vda / ext4 defaults,errors=remount-ro 0 1\n",
    "etc/resolv.conf": "",
}
BOARD_FILES = {
    DBC: "etc/milepost/milepost-demo.dbc",
    GUEST / "chrony.conf": "etc/chrony/chrony.conf",
    GUEST / "agent-start.conf": "etc/systemd/system/milepost-agent.service.d/rig.conf",
}
BOARD_ENABLED = ("gpsd.service", "chrony.service")
"""What the installer and ``board apply`` would do: only where the agent comes installed."""

ENABLED = ("rig-network.service", "rig-can.service", "rig-helper.service")
"""The rig's own; ``multi-user.target`` wants each of them."""

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "systemd-binfmt.service",
    "getty@tty1.service",
    "serial-getty@hvc0.service",
)
"""And the console's getty."""

PACKAGED = (
    "agent",
    "contract",
    "firmware-config",
    "package",
    "systemd",
    "pyproject.toml",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    *(f"docs/{name}" for name in deb.DOCS),
)
"""What the packages are made of, below ``ROOT``."""

BUILDER = Path(__file__).resolve().parent / "image.py"


def packages(architecture):
    """Debian's, in the guest; what the agent's package depends on is among them."""
    depends = PLATFORMS[architecture.debian].depends
    return tuple(sorted([*PACKAGES, *depends, architecture.kernel]))


def debs(architecture):
    """The files' names of the agent's packages, by ``VERSIONS``."""
    return tuple(f"{deb.NAME}_{version}_{architecture.debian}.deb" for version in VERSIONS)


def masked(architecture):
    """Units that shall not run in the guest."""
    return (*MASKED, f"serial-getty@{architecture.console}.service")


def board_texts(architecture):
    """What ``board apply`` would write."""
    device = architecture.gps_device
    return {"etc/default/gpsd": f'DEVICES="{device}"\nGPSD_OPTIONS="-n"\nUSBAUTO="false"\n'}


def base_digest(architecture):
    """Of the bare Debian; its packages age with it, until the recipe changes or it is removed."""
    parts = [repr((SUITE, packages(architecture), INITRD_MODULES))]
    return digest([*parts, SECOND_STAGE.read_bytes()] if architecture.foreign else parts)


def sources_digest(architecture):
    """Of all that goes into the packages."""
    files = (
        file
        for name in PACKAGED
        for file in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    )
    named = sorted((str(file.relative_to(ROOT)), file) for file in files)
    return digest(
        [
            repr(debs(architecture)),
            *(part for name, file in named for part in (name, file.read_bytes())),
        ]
    )


def image_digest(packages_name, architecture, *, installed):
    """Of everything in the image; ``packages`` is the name of the folder with the agent's."""
    units = (ENABLED, BOARD_ENABLED, masked(architecture))
    texts = (DISK_SIZE, TEXTS, board_texts(architecture), *units, SKIPPED_CAN_S)
    parts = [base_digest(architecture), repr(texts), packages_name]
    files = sorted([*FILES, *BOARD_FILES, DRIVE_CAN, BUILDER], key=lambda path: path.name)
    return digest(
        [
            *parts,
            repr(installed),
            *(part for file in files for part in (file.name, file.read_bytes())),
        ]
    )


def drive_candump():
    """The built-in drive from the moment when the vehicle is in use, for ``canplayer``."""
    lines = [line for line in DRIVE_CAN.read_text(encoding="ascii").splitlines() if line[:1] == "("]
    begin = float(lines[0][1 : lines[0].index(")")]) + SKIPPED_CAN_S
    return "".join(f"{line}\n" for line in lines if float(line[1 : line.index(")")]) >= begin)


def digest(parts):
    """Of these texts or bytes, in this order; short enough for a file's name."""
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        found.update(len(data).to_bytes(8, "big") + data)
    return found.hexdigest()[:16]
