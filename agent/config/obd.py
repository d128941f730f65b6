"""The config sections of the sources that may transmit: ``[[obd]]`` and ``[[j1939]]``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agent.config.can import FieldKind, field_kind, flatten, near_field
from agent.config.sections import Section
from agent.sources.obd.pids import PIDS

CanId = Annotated[int, Field(ge=0, le=0x1FFF_FFFF)]


class BusSettings(Section):
    """What every source on a bus of its own has."""

    interface: Annotated[str, Field(min_length=1)] = Field(
        default="socketcan",
        description='python-can interface: "socketcan" on a vehicle, "udp_multicast" or '
        '"virtual" on a desk. Default "socketcan".',
    )
    channel: Annotated[str, Field(min_length=1)] = Field(
        default="can0", description='The interface\'s channel. Default "can0".'
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of can.Bus, e.g. hop_limit = 0. Default none.",
    )


class IdWidth(StrEnum):
    """Which ids ISO 15765-4 requests have."""

    BITS_11 = "11bit"
    """7DF to all, 7E0 to 7E7 to one, answers from 7E8 to 7EF."""

    BITS_29 = "29bit"
    """18DB33F1 to all, 18DAxxF1 to one, answers from 18DAF1xx."""


class Addressing(StrEnum):
    """Whom a request for a value goes to, once it is known which ECU has it."""

    PHYSICAL = "physical"
    FUNCTIONAL = "functional"


class DtcMode(StrEnum):
    """Which trouble codes are read."""

    STORED = "stored"
    """Service 03: confirmed."""

    PENDING = "pending"
    """Service 07: seen once in this or the last driving cycle."""

    PERMANENT = "permanent"
    """Service 0A: cannot be erased by a tester."""


class ObdPreset(StrEnum):
    """Which values are asked for without being named."""

    COMBUSTION = "combustion"
    ELECTRIC = "electric"
    NONE = "none"


class PidSettings(Section):
    """One entry of ``[obd.pids]``: a contract field's parameter of service 01."""

    pid: Annotated[int, Field(ge=0x01, le=0xFF)] = Field(
        description="Its number, e.g. 0x0D for the speed. Required."
    )
    interval_s: Annotated[float, Field(ge=0.1, le=86_400)] = Field(
        default=1.0, description="Seconds from one request to the next. Default 1."
    )
    bytes: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None,
        description="For a PID that the agent does not know: its first so many bytes as an "
        "unsigned number. Default: as SAE J1979 has it.",
    )
    scale: float = Field(default=1.0, description="Factor to the contract's unit. Default 1.")
    offset: float = Field(default=0.0, description="Added after the factor. Default 0.")


def _pid_entry(value: object) -> object:
    """Accept ``0x0D`` for ``{pid = 0x0D}``."""
    return {"pid": value} if isinstance(value, int) else value


Pids = Annotated[
    dict[str, Annotated[PidSettings, BeforeValidator(_pid_entry)]],
    BeforeValidator(lambda value: flatten(value, leaf="pid")),
]


def _pid(number: int, interval_s: float) -> PidSettings:
    return PidSettings(pid=number, interval_s=interval_s)


PRESETS: Final[dict[ObdPreset, dict[str, PidSettings]]] = {
    ObdPreset.COMBUSTION: {
        "motion.speed_kmh": _pid(0x0D, 1),
        "signals.engine_rpm": _pid(0x0C, 1),
        "signals.engine_load_pct": _pid(0x04, 5),
        "signals.coolant_temperature_c": _pid(0x05, 10),
        "signals.fuel_level_pct": _pid(0x2F, 30),
        "battery.voltage": _pid(0x42, 10),
        "diagnostics.odometer_km": _pid(0xA6, 30),
    },
    ObdPreset.ELECTRIC: {
        "motion.speed_kmh": _pid(0x0D, 1),
        "battery.percent": _pid(0x5B, 10),
        "signals.supply_voltage": _pid(0x42, 10),
        "diagnostics.odometer_km": _pid(0xA6, 30),
    },
    ObdPreset.NONE: {},
}
"""What an ECU does not have is not asked for."""


class UdsSettings(Section):
    """``[[obd.uds]]``: an ECU whose trouble codes are read by UDS, service 19 02."""

    request_id: CanId = Field(description="The id that it listens to, e.g. 0x7E0. Required.")
    response_id: CanId = Field(description="The id that it answers with, e.g. 0x7E8. Required.")
    status_mask: Annotated[int, Field(ge=1, le=0xFF)] = Field(
        default=0x08,
        description="Bits of the status byte, any of which a code must have: 0x01 fails now, "
        "0x04 pending, 0x08 confirmed. Default 0x08.",
    )
    interval_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=300.0, description="Seconds from one request to the next. Default 300."
    )

    @model_validator(mode="after")
    def _ids_fit(self) -> UdsSettings:
        if (self.request_id > 0x7FF) != (self.response_id > 0x7FF):
            raise ValueError("request_id and response_id must both have 11 bits or both 29")
        if self.request_id == self.response_id:
            raise ValueError("request_id and response_id must differ")
        return self


class ObdSettings(BusSettings):
    """``[[obd]]``: ECUs that are asked on one bus. The agent then transmits on it."""

    ids: Annotated[IdWidth, Field(strict=False)] = Field(
        default=IdWidth.BITS_11,
        description='"11bit" (7DF, 7E8…) or "29bit" (18DB33F1, 18DAF1…). Default "11bit".',
    )
    preset: Annotated[ObdPreset, Field(strict=False)] = Field(
        default=ObdPreset.COMBUSTION,
        description='Values to ask for: "combustion", "electric" or "none". What a [[can]] bus '
        'maps is not asked for. Default "combustion".',
    )
    pids: Pids = Field(
        default_factory=dict,
        description="Contract field = PID, or a table with pid, interval_s, bytes, scale, offset; "
        "goes before the preset. Default none.",
    )
    addressing: Annotated[Addressing, Field(strict=False)] = Field(
        default=Addressing.PHYSICAL,
        description='"physical" asks the one ECU that has a value, "functional" all. '
        'Default "physical".',
    )
    dtc_modes: Annotated[
        tuple[Annotated[DtcMode, Field(strict=False)], ...], Field(strict=False)
    ] = Field(
        default=(DtcMode.STORED, DtcMode.PENDING),
        description='Trouble codes to read: of "stored", "pending", "permanent". '
        'Default ["stored", "pending"].',
    )
    dtc_interval_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=60.0, description="Seconds from one reading of them to the next. Default 60."
    )
    vin: bool = Field(
        default=True,
        description="Whether the VIN is asked for, once each time the vehicle wakes; it is sent "
        "as signals.vin. Default true.",
    )
    spacing_s: Annotated[float, Field(ge=0.01, le=60)] = Field(
        default=0.1,
        description="Seconds at least from an answer to the next request; doubles up to 30 while "
        "nobody answers. Default 0.1.",
    )
    answer_timeout_s: Annotated[float, Field(ge=0.05, le=10)] = Field(
        default=0.3, description="Seconds that an ECU has to begin its answer. Default 0.3."
    )
    quiet_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=10.0,
        description="Seconds without other traffic after which the bus counts as asleep: nothing "
        "is asked then unless the vehicle drives. Default 10.",
    )
    engine_off_s: Annotated[float, Field(ge=1, le=86_400)] = Field(
        default=60.0,
        description="Seconds with the engine and the wheels standing after which only a probe is "
        "sent now and then. Default 60.",
    )
    probe_s: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=300.0,
        description="Seconds from one probe to the next while the bus is awake with the engine "
        "off. Default 300.",
    )
    uds: Annotated[tuple[UdsSettings, ...], Field(strict=False)] = Field(
        default=(), description="ECUs whose trouble codes are read by UDS. Default none."
    )

    @field_validator("pids")
    @classmethod
    def _fields_exist(cls, pids: dict[str, PidSettings]) -> dict[str, PidSettings]:
        for name, entry in pids.items():
            kind = field_kind(name)
            if kind is None:
                raise ValueError(f"the contract has no field {name!r}{near_field(name)}")
            if kind is FieldKind.CODES:
                raise ValueError(f"{name!r} comes from dtc_modes, not from a PID")
            if entry.pid % 0x20 == 0:
                raise ValueError(f"{name!r}: PID {entry.pid:#04x} lists PIDs, it is no value")
            if entry.bytes is None and entry.pid not in PIDS:
                raise ValueError(f"{name!r}: PID {entry.pid:#04x} is not known; give its bytes")
        return pids

    def wanted(self) -> dict[str, PidSettings]:
        """The preset's values with those of ``pids`` over them."""
        return {**PRESETS[self.preset], **self.pids}


class J1939Request(StrEnum):
    """What a J1939 ECU tells only when it is asked."""

    VIN = "vin"
    ENGINE_HOURS = "engine_hours"


class J1939Settings(BusSettings):
    """``[[j1939]]``: faults (DM1) and multi-packet messages of a J1939 bus.

    Single-packet signals such as engine speed come through ``[[can]]`` and a DBC.
    """

    source_addresses: Annotated[
        tuple[Annotated[int, Field(ge=0, le=253)], ...], Field(strict=False)
    ] = Field(
        default=(),
        description="Addresses of the ECUs whose faults count, e.g. [0] for the engine; [] is "
        "all. Default [].",
    )
    dm1_timeout_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=5.0,
        description="Seconds without an ECU's DM1, on a bus that is awake, after which its faults "
        "count as cleared. DM1 comes once a second. Default 5.",
    )
    requests: Annotated[
        tuple[Annotated[J1939Request, Field(strict=False)], ...], Field(strict=False)
    ] = Field(
        default=(),
        description='What to ask for while the bus is awake: of "vin", "engine_hours". **The '
        "agent then transmits on the bus.** Default [], listen only.",
    )
    request_interval_s: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=600.0, description="Seconds from one request to the next. Default 600."
    )
    address: Annotated[int, Field(ge=0, le=253)] = Field(
        default=249,
        description="The agent's own source address for requests; 249 is that of an off-board "
        "service tool. Default 249.",
    )
