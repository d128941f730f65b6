"""What the guest is made of, and a digest of all of it: the image's name in the cache."""

import hashlib
from pathlib import Path

from package import deb
from package.cli import project_version

SUITE = "bookworm"
PACKAGES = (
    "can-utils",
    "chrony",
    "gpsd",
    "iproute2",
    "kmod",
    "linux-image-amd64",
    "procps",
    "python3-venv",
    "systemd-sysv",
    "udev",
)
ARCHITECTURE = "amd64"
VERSIONS = (project_version(), f"{project_version()}+rig2")
"""Of this source tree, and of the same one as an upgrade."""

DEB, NEWER_DEB = (f"{deb.NAME}_{version}_{ARCHITECTURE}.deb" for version in VERSIONS)
SHELF = "opt/rig/packages"
"""Where the packages lie in a guest that has the agent not installed."""

INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
"""All that the root file system and the journal's console need.

A third of the usual size, seconds less under emulation.
"""

DISK_SIZE = "2G"
ROOT = Path(__file__).resolve().parents[3]
GUEST = Path(__file__).resolve().parent / "guest"
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
BOARD_TEXTS = {"etc/default/gpsd": 'DEVICES="/dev/ttyS1"\nGPSD_OPTIONS="-n"\nUSBAUTO="false"\n'}
BOARD_ENABLED = ("gpsd.service", "chrony.service")
"""What the installer and ``board apply`` would do: only where the agent comes installed."""

ENABLED = ("rig-network.service", "rig-can.service", "rig-helper.service")
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
    "serial-getty@ttyS0.service",
)
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


def base_digest():
    """Of the bare Debian; its packages age with it, until the recipe changes or it is removed."""
    return digest([repr((SUITE, PACKAGES, INITRD_MODULES))])


def sources_digest():
    """Of all that goes into the packages."""
    files = (
        file
        for name in PACKAGED
        for file in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    )
    named = sorted((str(file.relative_to(ROOT)), file) for file in files)
    return digest(
        [repr(VERSIONS), *(part for name, file in named for part in (name, file.read_bytes()))]
    )


def image_digest(packages, *, installed):
    """Of everything in the image."""
    texts = (DISK_SIZE, TEXTS, BOARD_TEXTS, ENABLED, BOARD_ENABLED, MASKED, SKIPPED_CAN_S)
    parts = [base_digest(), repr(texts), packages]
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
