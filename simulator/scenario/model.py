"""The scenario file. Every key has its description with unit and default here, and nowhere else."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from simulator.durations import parse_duration_s
from simulator.network.faults import FAULTS as NETWORK_FAULTS
from simulator.network.faults import parse_fault
from simulator.synth.frankfurt import ROUTES
from simulator.toml_file import Table, load


def _seconds(value: object) -> object:
    return parse_duration_s(value) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
"""A number of seconds, or text such as ``"1m30s"``."""


class FaultName(StrEnum):
    """The faults; ``simulator.scenario.faults`` says what each does."""

    GPS_LOSS = "gps-loss"
    GPS_JUMP = "gps-jump"
    STALE_FIX = "stale-fix"
    BUS_OFF = "bus-off"
    SENSOR_STUCK = "sensor-stuck"
    CLOCK_1970 = "clock-1970"
    NETWORK_CUT = "network-cut"
    BROWN_OUT = "brown-out"


class Drive(Table):
    """``[vehicle.drive]``: a synthetic drive, made anew from its seed."""

    route: str = Field(
        default="hop", description=f"{' or '.join(ROUTES)}: about nine minutes or one. Default hop."
    )
    seed: int = Field(default=1, description="Another seed is another drive. Default 1.")
    rate_hz: int = Field(default=1, description="Fixes per second, 1 or 5. Default 1.")
    parked_before_s: Seconds = Field(
        default=4.0, description="Standing before it departs, seconds. Default 4."
    )
    parked_after_s: Seconds = Field(
        default=6.0, description="Standing after it has arrived, seconds. Default 6."
    )

    @model_validator(mode="after")
    def _exists(self) -> Drive:
        if self.route not in ROUTES:
            raise ValueError(f"there is no route {self.route!r}; choose {' or '.join(ROUTES)}")
        if self.rate_hz not in (1, 5):
            raise ValueError("rate_hz is 1 or 5")
        return self


class Receiver(StrEnum):
    """How the agent gets at the receiver."""

    GPSD = "gpsd"
    SERIAL = "serial"


class Vehicle(Table):
    """``[vehicle]``: which vehicle it is and what it drives."""

    preset: str = Field(
        default="gps-only",
        description="Preset of the agent's config, as `milepost-agent preset list` has them; "
        "what the vehicle sends is the simulator's vehicle of that name. Default gps-only.",
    )
    profile: Path | None = Field(
        default=None,
        description="The simulator's vehicle as a file of your own, relative to this one "
        "(`milepost-sim synth can --vehicle`). Default: that of the preset's name.",
    )
    receiver: Receiver = Field(
        default=Receiver.GPSD,
        description='"gpsd", or "serial": NMEA on a serial line of 38,400 baud, which the agent '
        'must find out. Default "gpsd".',
    )
    drive: Drive = Field(default=Drive(), description="A synthetic drive.")
    nmea: Path | None = Field(
        default=None,
        description="In place of the synthetic drive: a recorded NMEA log, relative to this file.",
    )
    can: Path | None = Field(
        default=None,
        description="With nmea: a recorded candump log, whose channels are those of the preset.",
    )


class Fault(Table):
    """``[[fault]]``: one entry of the time line."""

    name: FaultName = Field(
        description="Which fault: " + ", ".join(name.value for name in FaultName) + ". Required."
    )
    at_s: Seconds = Field(
        description="When it begins, seconds after the drive's first moment. Required."
    )
    for_s: Seconds = Field(description="How long it lasts, seconds. Required.")
    jump_m: Annotated[float, Field(gt=0)] = Field(
        default=2_000.0, description="gps-jump: how far the fixes are off, metres. Default 2000."
    )
    bus: str | None = Field(
        default=None, description="bus-off: which bus, e.g. can1. Default: all of them."
    )
    signals: tuple[str, ...] = Field(
        default=(), description='sensor-stuck: which signals, e.g. ["PackState.StateOfCharge"].'
    )
    network: str = Field(
        default="cut",
        description="network-cut: how the network is bad, as `milepost-sim network` has it: "
        + ", ".join(
            f"{name}={kind.example}" if kind.example else name
            for name, kind in NETWORK_FAULTS.items()
        )
        + ". Default cut.",
    )

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.for_s

    @model_validator(mode="after")
    def _fits(self) -> Fault:
        if self.for_s == 0:
            raise ValueError("for_s is 0: the fault lasts no time")
        if self.name is FaultName.SENSOR_STUCK and not self.signals:
            raise ValueError('sensor-stuck needs signals, e.g. ["PackState.StateOfCharge"]')
        if self.name is FaultName.CLOCK_1970 and self.at_s:
            raise ValueError("clock-1970 is how a board starts: at_s must be 0")
        parse_fault(self.network)
        for key, name in (
            ("signals", FaultName.SENSOR_STUCK),
            ("bus", FaultName.BUS_OFF),
            ("network", FaultName.NETWORK_CUT),
            ("jump_m", FaultName.GPS_JUMP),
        ):
            if key in self.model_fields_set and self.name is not name:
                raise ValueError(f"{key} belongs to {name.value}, not to {self.name.value}")
        return self


class FieldState(StrEnum):
    """What a field of the samples does in a while."""

    PRESENT = "present"
    """Every sample has it."""
    ABSENT = "absent"
    """No sample has it."""
    CONSTANT = "constant"
    """All samples that have it say the same, and there are two at least."""
    CHANGING = "changing"
    """They say two things at least."""


class FieldExpectation(Table):
    """``[[expect.field]]``: what the samples taken in a while say of one field."""

    name: str = Field(description='Of the contract, e.g. "battery.percent". Required.')
    from_s: Seconds = Field(default=0.0, description="Begin of the while, seconds. Default 0.")
    to_s: Seconds | None = Field(
        default=None, description="Its end, seconds. Default: the scenario's end."
    )
    state: FieldState | None = Field(
        default=None,
        description="present: every sample has it; absent: none has; constant: all say the same; "
        "changing: they do not. Default: not looked at.",
    )
    min: float | None = Field(default=None, description="No sample is below. Default none.")
    max: float | None = Field(default=None, description="No sample is above. Default none.")

    @model_validator(mode="after")
    def _asks(self) -> FieldExpectation:
        if self.state is None and self.min is None and self.max is None:
            raise ValueError("expects nothing: give state, min or max")
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"to_s {self.to_s:g} is not after from_s {self.from_s:g}")
        return self


class Expect(Table):
    """``[expect]``: what must come of it.

    Always checked beside it: nothing is missing unexplained, every timestamp lies within the
    run, the agent ran as often as it was started, and the vehicle was sampled at all.
    """

    missing_max: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Samples and events that may be missing for a known reason, e.g. what a "
        "brown-out cost. Default 0.",
    )
    samples_min: Annotated[int, Field(ge=1)] = Field(
        default=10, description="Samples that are stored at least. Default 10."
    )
    trips: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Trips that began, by their ids, in events and samples. Default: not counted.",
    )
    modes: tuple[str, ...] = Field(
        default=(), description='Modes that were entered, e.g. ["in_trip"]. Default none.'
    )
    events: tuple[str, ...] = Field(
        default=(),
        description='Events that came: "type", or "type:code" with the start of a fault\'s code, '
        'in which * stands for anything, e.g. "fault_raised:source:can:*:bus-off". Default none.',
    )
    no_events: tuple[str, ...] = Field(
        default=(), description="Events that did not come, in the same form. Default none."
    )
    position_error_max_m: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="How far a position may be from where the vehicle was at that time, metres. "
        "Default: not looked at.",
    )
    time_quality: tuple[str, ...] = Field(
        default=(),
        description='What may stand behind the timestamps, e.g. ["gps"]. Default: anything.',
    )
    field: tuple[FieldExpectation, ...] = Field(
        default=(), description="What the samples say of single fields. Default none."
    )


class Scenario(Table):
    """The whole file."""

    title: str = Field(description="What it shows, in a sentence. Required.")
    duration_s: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="End after this, seconds. Default: the drive's length."
    )
    vehicle: Vehicle = Field(default=Vehicle(), description="The vehicle.")
    agent: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of agent.toml that are laid over the preset, section by section, e.g. "
        "[agent.sampling.thresholds]; [[agent.can]] stands in place of the preset's buses. "
        "Default none.",
    )
    fault: tuple[Fault, ...] = Field(default=(), description="The time line.")
    expect: Expect = Field(default=Expect(), description="What must come of it.")

    @property
    def starts(self) -> int:
        """How often the agent is started."""
        return 1 + sum(fault.name is FaultName.BROWN_OUT for fault in self.fault)


PATH_KEYS: Final = ("profile", "nmea", "can")


def load_scenario(path: Path) -> Scenario:
    """Read and check a scenario; its paths, those of DBCs too, become those of files.

    Raises:
        FileError: it cannot be read, or keys or values are wrong; one line a fault.
    """
    scenario = load(path, Scenario)
    folder = path.resolve().parent
    named = {key: getattr(scenario.vehicle, key) for key in PATH_KEYS}
    found = {key: folder / value for key, value in named.items() if value is not None}
    return scenario.model_copy(
        update={
            "vehicle": scenario.vehicle.model_copy(update=found),
            "agent": _with_folder(scenario.agent, folder),
        }
    )


def _with_folder(agent: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The agent's keys, the DBCs of its own ``[[agent.can]]`` beside the scenario."""
    buses = [
        {**bus, "dbc": [str(folder / dbc) for dbc in bus.get("dbc", ())]}
        for bus in agent.get("can", ())
    ]
    return {**agent, "can": buses} if buses else agent
