"""What the package is built for: one table of architectures, one of Python versions."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import Final

from package.errors import PackageError

PYTHONS: Final = ("3.11", "3.12", "3.13")
"""Of one package, all: Debian 12 and Raspberry Pi OS (3.11), Ubuntu 24.04 (3.12), Debian 13 (3.13).

A wheel with compiled code names its Python version in each file, so all of them lie side by
side in one folder, and a board keeps working when its Debian is upgraded.
"""

LEFT_OUT: Final = {
    "pip": "only sqlite-utils' own plug-in command wants it",
    "pycparser": "only cffi's compiler wants it",
}
"""Dependencies that no architecture gets, with the reason."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One architecture of Debian."""

    debian: str
    machine: str
    """As the kernel and ``platform_machine`` in a requirement call it."""
    wheels: tuple[str, ...]
    """Platform tags of the wheels that run there, the most demanding first."""
    libc: str
    """The glibc that these wheels need."""
    extras: tuple[str, ...]
    """Of the distribution ``milepost``."""
    left_out: dict[str, str] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    """Debian's packages that take the place of what is left out."""

    def lacks(self) -> dict[str, str]:
        """Every dependency that is left out here, with the reason."""
        return {**LEFT_OUT, **self.left_out}

    def environment(self, python: str) -> dict[str, str]:
        """What markers in requirements are evaluated with."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


PLATFORMS: Final = {
    platform.debian: platform
    for platform in (
        Platform(
            "amd64",
            "x86_64",
            ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
            "2.28",
            ("provision-pkcs11",),
        ),
        Platform(
            "arm64",
            "aarch64",
            ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
            "2.28",
            ("provision-pkcs11",),
        ),
        Platform(
            "armhf",
            "armv7l",
            ("manylinux_2_31_armv7l", "manylinux_2_17_armv7l", "manylinux2014_armv7l"),
            "2.31",
            ("provision",),
            left_out={
                "asn1crypto": "only python-pkcs11 wants it",
                "awscrt": "no wheel for armv7; the agent speaks MQTT through paho",
                "awsiotsdk": "wants awscrt; the agent provisions through paho",
                "cffi": "no wheel for armv7; Debian's python3-cffi-backend takes its place",
                "msgpack": "no wheel for armv7; only CAN over UDP multicast wants it",
                "python-pkcs11": "no wheel for armv7; keys are files there",
            },
            depends=("python3-cffi-backend",),
        ),
    )
}


def native() -> Platform:
    """The platform of this machine.

    Raises:
        PackageError: dpkg is not there, or its architecture is not in the table.
    """
    try:
        told = subprocess.run(
            ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise PackageError(f"dpkg does not say what this machine is: {error}") from error
    name = told.stdout.strip()
    if name not in PLATFORMS:
        raise PackageError(f"no wheels are known for {name}; name one with --arch")
    return PLATFORMS[name]
