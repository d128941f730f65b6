"""What the installer asks for, checked as a whole."""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.board.profile import Board, Hat, Uart, board_named, hat_named
from agent.errors import ConfigError

NO_HAT: Final = "none"
_FACTORS: Final = {"": 1, "k": 1_000, "m": 1_000_000}


_BITRATE: Final = Field(ge=5_000, le=1_000_000)


class Gps(Enum):
    """Where the receiver is."""

    UART = "uart"
    USB = "usb"
    NONE = "none"


class Chrony(Enum):
    """How chrony gets the receiver's time from gpsd."""

    SHM = "shm"
    """Shared memory: works whatever starts first."""

    SOCK = "sock"
    """A socket of chrony's: nobody else on the board can give it a time."""

    NONE = "none"


class Logs(Enum):
    """Where the journal is."""

    DISK = "disk"
    MEMORY = "memory"
    """No flash wear, and no log of what was before a power cut."""


class Level(Enum):
    """Of a GPIO."""

    LOW = "low"
    HIGH = "high"


class Wanted(BaseModel):
    """All options of ``board apply``; bit rates and frequencies in Hz, GPIOs as the SoC counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    board: str
    hat: str = NO_HAT
    bitrate: Annotated[int, _BITRATE] = 500_000
    bitrates: dict[str, Annotated[int, _BITRATE]] = Field(default={})
    """Of interfaces whose bus has another one."""
    dbitrate: int | None = Field(default=None, ge=5_000, le=8_000_000)
    restart_ms: int = Field(default=100, ge=0, le=60_000)
    txqueuelen: int = Field(default=1000, ge=1, le=100_000)
    can: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,14}$")], ...] = ()
    """Further interfaces, e.g. of a USB adapter."""
    listen_only: bool = False
    oscillator_hz: int | None = Field(default=None, ge=1_000_000, le=40_000_000)
    interrupt_gpio: int | None = Field(default=None, ge=0, le=27)
    gps: Gps = Gps.UART
    gps_device: str | None = Field(default=None, pattern=r"^/dev/[A-Za-z0-9._:/-]+$")
    gps_baud: int | None = Field(default=None, ge=4_800, le=921_600)
    gps_offset_s: float = Field(default=0.2, ge=-1.0, le=2.0)
    pps_gpio: int | None = Field(default=None, ge=0, le=27)
    chrony: Chrony = Chrony.SHM
    shutdown_gpio: int | None = Field(default=None, ge=0, le=27)
    shutdown_level: Level = Level.LOW
    poweroff_gpio: int | None = Field(default=None, ge=0, le=27)
    watchdog: bool = True
    logs: Logs = Logs.DISK
    tmp_in_memory: bool = True

    @property
    def profile(self) -> Board:
        """Of the board."""
        return board_named(self.board)

    @property
    def hat_profile(self) -> Hat | None:
        """Of the HAT, if there is one."""
        return None if self.hat == NO_HAT else hat_named(self.hat)

    @property
    def interrupt(self) -> int | None:
        """The GPIO of the HAT's interrupt, where it can be chosen."""
        if self.interrupt_gpio is not None or self.hat_profile is None:
            return self.interrupt_gpio
        return self.hat_profile.interrupt_gpio

    @property
    def can_channels(self) -> tuple[str, ...]:
        """The interfaces that get a bit rate."""
        controller = self.hat_profile or self.profile.can
        own = controller.channels if controller is not None else ()
        return tuple(dict.fromkeys((*own, *self.can)))

    def bitrate_of(self, channel: str) -> int:
        """Of an interface's bus."""
        return self.bitrates.get(channel, self.bitrate)

    @property
    def header_uart(self) -> Uart | None:
        """The header's UART, where the receiver is on it."""
        on_header = self.gps is Gps.UART and self.gps_device is None
        return self.profile.uart if on_header else None

    @property
    def device(self) -> str | None:
        """The receiver's serial port, where it is known; USB receivers are found by gpsd."""
        uart = self.profile.uart
        if self.gps is Gps.UART:
            return self.gps_device or (uart.device if uart is not None else None)
        return self.gps_device if self.gps is Gps.USB else None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        board, hat = self.profile, self.hat_profile
        self._fits_board(board, hat)
        self._fits_can(board, hat)
        if self.gps is not Gps.UART and self.pps_gpio is not None:
            raise ValueError("a PPS pin belongs to a receiver on the UART: --gps uart")
        if self.gps is Gps.NONE and (self.gps_device or self.gps_baud):
            raise ValueError("--gps none has neither device nor baud rate")
        if self.chrony is Chrony.SOCK and self.device is None:
            raise ValueError("--chrony sock needs to know the receiver's port: --gps-device")
        uses = Counter(self._gpios(hat))
        twice = sorted(gpio for gpio, count in uses.items() if count > 1)
        if twice:
            raise ValueError(f"GPIO {', '.join(map(str, twice))} would be used twice")
        return self

    def _fits_board(self, board: Board, hat: Hat | None) -> None:
        if self.gps is Gps.UART and self.device is None:
            raise ValueError(f"{self.board} has no known UART: --gps-device, --gps usb or none")
        pins = (self.pps_gpio, self.shutdown_gpio, self.poweroff_gpio)
        if board.family == "raspberry-pi":
            return
        if hat is not None:
            raise ValueError(
                f"HATs are set up by overlays of the Raspberry Pi, and {self.board} has none: "
                "--hat none, with its own controller or a USB adapter (--can)"
            )
        if any(pin is not None for pin in pins):
            raise ValueError(
                f"{self.board} has no overlays for GPIOs: docs/board.md says what to do instead"
            )

    def _fits_can(self, board: Board, hat: Hat | None) -> None:
        controller = hat or board.can
        if self.dbitrate is not None and controller is not None and not controller.is_fd:
            raise ValueError("--dbitrate is for CAN FD, which this controller does not speak")
        unknown = [channel for channel in self.bitrates if channel not in self.can_channels]
        if unknown:
            known = ", ".join(self.can_channels) or "none"
            raise ValueError(
                f"there is no {unknown[0]} to give a bit rate (there is {known}); "
                f"--bitrate {unknown[0]}=none takes it back"
            )
        rates = [self.bitrate_of(channel) for channel in self.can_channels]
        if self.dbitrate is not None and self.dbitrate < max(rates, default=0):
            raise ValueError("the data bit rate is not below the bit rate")
        if self.oscillator_hz is not None and (hat is None or hat.oscillator_hz is None):
            raise ValueError("--oscillator is for a HAT with a crystal of its own")
        if self.interrupt_gpio is not None and (hat is None or hat.interrupt_gpio is None):
            raise ValueError("this HAT's interrupt pin is fixed")

    def _gpios(self, hat: Hat | None) -> list[int]:
        used = list(self.header_uart.gpios) if self.header_uart is not None else []
        if hat is not None:
            used += hat.gpios
            used += [pin for pin in (self.interrupt,) if pin is not None]
        pins = (self.pps_gpio, self.shutdown_gpio, self.poweroff_gpio)
        return used + [pin for pin in pins if pin is not None]


def parse_rate(text: str) -> int:
    """``500k``, ``2M``, ``83333`` -> per second.

    Raises:
        ConfigError: it is no such number.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if not match or not value.is_integer():
        raise ConfigError(f"{text!r} is no rate", hint="Write it as 500k, 2M or 83333.")
    return int(value)
