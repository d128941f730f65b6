"""What is asked for, as a table of targets. Pure: nothing is read but the profiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from string import Template
from typing import Final

from agent.board.profile import template
from agent.board.wanted import Chrony, Gps, Level, Logs, Wanted

BOOT: Final = "$boot/"
"""Stands for where the firmware reads from: /boot/firmware, or /boot before Bookworm."""

UNITS: Final = "etc/systemd/system/"
_PACKAGED_UNITS: Final = "/usr/lib/systemd/system/"


class How(Enum):
    """How content goes into what is there."""

    WHOLE = "whole"
    """The file is ours."""

    BLOCK = "block"
    """Lines between two marks at the file's end."""

    WORDS = "words"
    """Of the one line of cmdline.txt; content: a word a line, ``+word`` comes, ``-word`` goes."""

    VARIABLES = "variables"
    """``NAME="value"`` lines of a shell file are set; the rest stays."""

    LINK = "link"
    """A symbolic link; content: where to."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place. ``path`` is below the root, or begins with ``BOOT``."""

    path: str
    how: How
    content: str
    about: str
    needs: str = ""
    """What brings it into force: ``reboot``, or a unit to restart."""


REBOOT: Final = "reboot"


def render(wanted: Wanted) -> list[Target]:
    """Everything, in the order in which it is written."""
    return [
        *_firmware(wanted),
        *_can(wanted),
        *_receiver(wanted),
        *_time(wanted),
        *_upkeep(wanted),
    ]


def notes(wanted: Wanted) -> tuple[str, ...]:
    """What cannot be done from here, and what else to know."""
    own = wanted.profile.can
    found = list(own.notes) if own is not None and wanted.hat_profile is None else []
    if len(wanted.can_channels) > 1:
        found.append(
            "Which channel is can0 is up to the kernel: if they come the other way round, see "
            "docs/board.md, two channels."
        )
    if not wanted.can_channels:
        found.append(
            "No CAN interface is set up: --hat names a HAT (`board list`), --can an interface."
        )
    return tuple(found)


def overlays(wanted: Wanted) -> list[str]:
    """The names of the device tree overlays that it takes."""
    lines = [line for target in _firmware(wanted) for line in target.content.splitlines()]
    found = [line.removeprefix("dtoverlay=") for line in lines if line.startswith("dtoverlay=")]
    return [line.partition(",")[0] for line in found]


def _firmware(wanted: Wanted) -> Iterator[Target]:
    board = wanted.profile
    if board.family != "raspberry-pi":
        return
    lines = [*board.config, *_hat_lines(wanted)]
    lines += uart.config if (uart := wanted.header_uart) is not None else ()
    if wanted.pps_gpio is not None:
        lines.append(f"dtoverlay=pps-gpio,gpiopin={wanted.pps_gpio}")
    if wanted.shutdown_gpio is not None:
        is_low = wanted.shutdown_level is Level.LOW
        lines.append(
            f"dtoverlay=gpio-shutdown,gpio_pin={wanted.shutdown_gpio},"
            f"active_low={int(is_low)},gpio_pull={'up' if is_low else 'down'}"
        )
    if wanted.poweroff_gpio is not None:
        lines.append(f"dtoverlay=gpio-poweroff,gpiopin={wanted.poweroff_gpio}")
    # whatever section the file ends in: these count for every board
    content = "\n".join(["[all]", *lines]) + "\n"
    yield Target(BOOT + "config.txt", How.BLOCK, content, "overlays", REBOOT)
    consoles = uart.consoles if uart is not None else ()
    words = [*(f"+{word}" for word in board.cmdline), *(f"-console={name}" for name in consoles)]
    yield Target(
        BOOT + "cmdline.txt",
        How.WORDS,
        "\n".join(words) + "\n",
        "memory limits; no console on the receiver's UART",
        REBOOT,
    )


def _hat_lines(wanted: Wanted) -> list[str]:
    hat = wanted.hat_profile
    if hat is None:
        return []
    values = {
        "oscillator_hz": wanted.oscillator_hz or hat.oscillator_hz,
        "interrupt_gpio": wanted.interrupt,
    }
    return [Template(line).substitute(values) for line in hat.config]


def _can(wanted: Wanted) -> Iterator[Target]:
    channels = wanted.can_channels
    if not channels:
        return
    modules = template("modules.conf", modules="can\ncan_raw\ncan_isotp")
    yield Target("etc/modules-load.d/milepost.conf", How.WHOLE, modules, "kernel modules", REBOOT)
    own = wanted.profile.can
    if own is not None and wanted.hat_profile is None:
        for unit in own.units:
            text = template(unit.removeprefix("milepost-"))
            yield Target(UNITS + unit, How.WHOLE, text, "CAN driver", unit)
            yield _enable("sysinit.target", unit, f"/{UNITS}{unit}", "CAN driver at boot")
    options = []
    if wanted.dbitrate is not None:
        options.append(f"dbitrate {wanted.dbitrate} fd on")
    if wanted.listen_only:
        options.append("listen-only on")
    for channel in channels:
        text = template(
            "can.env",
            channel=channel,
            bitrate=wanted.bitrate_of(channel),
            restart_ms=wanted.restart_ms,
            txqueuelen=wanted.txqueuelen,
            can_options=f'"{" ".join(options)}"' if options else "",
        )
        unit = f"milepost-can@{channel}.service"
        yield Target(f"etc/milepost/can-{channel}.env", How.WHOLE, text, "CAN bit rate", unit)
        yield _enable(
            f"sys-subsystem-net-devices-{channel}.device",
            unit,
            _PACKAGED_UNITS + "milepost-can@.service",
            f"{channel} comes up by itself",
        )


def _receiver(wanted: Wanted) -> Iterator[Target]:
    if wanted.gps is Gps.NONE:
        return
    if (uart := wanted.header_uart) is not None:
        for unit in uart.masked_units:
            yield Target(UNITS + unit, How.LINK, "/dev/null", "frees the receiver's UART", REBOOT)
    speed = f" -s {wanted.gps_baud}" if wanted.gps_baud is not None else ""
    values = {
        "DEVICES": wanted.device or "",
        "GPSD_OPTIONS": f"-n{speed}",
        "USBAUTO": "false" if wanted.device else "true",
    }
    text = "".join(f'{name}="{value}"\n' for name, value in values.items())
    yield Target("etc/default/gpsd", How.VARIABLES, text, "gpsd's receiver", "gpsd.service")
    yield _enable(
        "multi-user.target",
        "gpsd.service",
        _PACKAGED_UNITS + "gpsd.service",
        "gpsd reads before anybody asks: chrony needs it",
    )
    if wanted.gps is Gps.USB:
        # before 77-mm-*.rules and 80-mm-candidate.rules, which look at what this sets
        yield Target(
            "etc/udev/rules.d/70-milepost-gps.rules",
            How.WHOLE,
            template("gps.rules"),
            "ModemManager leaves the receiver alone",
            REBOOT,
        )


def _time(wanted: Wanted) -> Iterator[Target]:
    if wanted.gps is Gps.NONE or wanted.chrony is Chrony.NONE:
        return
    if wanted.chrony is Chrony.SHM:
        source = "SHM 0"
    else:
        source = f"SOCK /run/chrony.{(wanted.device or '').rsplit('/', 1)[-1]}.sock"
        yield Target(
            UNITS + "gpsd.service.d/50-milepost.conf",
            How.WHOLE,
            template("gpsd-after-chrony.conf"),
            "chrony's socket is there before gpsd looks for it",
            "gpsd.service",
        )
    lines = [f"refclock {source} refid GPS precision 1e-1 offset {wanted.gps_offset_s:g} delay 0.2"]
    if wanted.pps_gpio is not None:
        lines.append("refclock PPS /dev/pps0 refid PPS lock GPS precision 1e-7")
    yield Target(
        "etc/chrony/conf.d/milepost.conf",
        How.WHOLE,
        template("chrony.conf", refclocks="\n".join(lines)),
        "chrony takes the receiver's time",
        "chrony.service",
    )


def _upkeep(wanted: Wanted) -> Iterator[Target]:
    if wanted.watchdog:
        yield Target(
            "etc/systemd/system.conf.d/50-milepost.conf",
            How.WHOLE,
            template("watchdog.conf", watchdog_s=wanted.profile.watchdog_s),
            "hardware watchdog",
            REBOOT,
        )
    storage = "persistent" if wanted.logs is Logs.DISK else "volatile"
    yield Target(
        "etc/systemd/journald.conf.d/50-milepost.conf",
        How.WHOLE,
        template("journald.conf", storage=storage),
        "bounded journal",
        "systemd-journald.service",
    )
    if wanted.tmp_in_memory:
        yield Target(
            UNITS + "tmp.mount",
            How.WHOLE,
            template("tmp.mount"),
            "temporary files in memory",
            REBOOT,
        )
        yield _enable(
            "local-fs.target",
            "tmp.mount",
            f"/{UNITS}tmp.mount",
            "temporary files in memory, at boot",
        )
    if wanted.shutdown_gpio is not None:
        yield Target(
            "etc/systemd/logind.conf.d/50-milepost.conf",
            How.WHOLE,
            template("logind.conf"),
            "the power key shuts down",
            REBOOT,
        )


def _enable(wanting: str, unit: str, where: str, about: str) -> Target:
    """As ``systemctl enable`` does; it works on a card in a reader, too."""
    return Target(f"{UNITS}{wanting}.wants/{unit}", How.LINK, where, about, REBOOT)
