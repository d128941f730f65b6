"""``[sampling]``: rates of the modes and the thresholds between them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from agent.config.sections import Section
from contract import Mode

Percent = Annotated[float, Field(ge=0, le=100)]
Dwell = Annotated[float, Field(ge=0, le=86_400)]
SpeedKmh = Annotated[float, Field(ge=0, le=1_000)]


class RateSettings(Section):
    """``[sampling.<mode>]``: how often samples are taken in one mode."""

    interval_s: Annotated[float, Field(ge=0.05, le=86_400)] = Field(
        description="Seconds from sample to sample."
    )


class UnknownBattery(StrEnum):
    """What a parked vehicle does that says nothing of its battery."""

    NORMAL = "normal"
    """As if the battery were neither full nor empty: nothing is assumed."""

    IDLE = "idle"
    """As if it were full; for vehicles without a battery to watch, e.g. GPS only."""


class ThresholdSettings(Section):
    """``[sampling.thresholds]``: enter and leave differ, and each holds for a dwell."""

    trip_enter_speed_kmh: SpeedKmh = Field(
        default=5.0, description="Above this a trip begins, km/h. Default 5."
    )
    trip_enter_dwell_s: Dwell = Field(
        default=5.0, description="For so long, seconds; in use begins at once. Default 5."
    )
    trip_leave_speed_kmh: SpeedKmh = Field(
        default=2.0, description="Below this a vehicle stands, km/h. Default 2."
    )
    trip_leave_dwell_s: Dwell = Field(
        default=120.0, description="Standing, not in use, a trip ends after, seconds. Default 120."
    )
    trip_blind_dwell_s: Dwell = Field(
        default=600.0,
        description="Not in use and with no known speed, a trip ends after, seconds; longer "
        "than any tunnel. Default 600.",
    )
    parked_dwell_s: Dwell = Field(
        default=60.0, description="Standing for so long is parked, seconds. Default 60."
    )
    idle_enter_battery_percent: Percent = Field(
        default=80.0, description="Parked above this goes idle, %. Default 80."
    )
    idle_leave_battery_percent: Percent = Field(
        default=75.0, description="Below this idle ends, %. Default 75."
    )
    idle_when_battery_unknown: Annotated[UnknownBattery, Field(strict=False)] = Field(
        default=UnknownBattery.NORMAL,
        description='Mode of a parked vehicle whose battery is unknown: "normal" or "idle". '
        'Default "normal".',
    )
    saver_enter_battery_percent: Percent = Field(
        default=15.0, description="Parked below this, not charging, saves, %. Default 15."
    )
    saver_leave_battery_percent: Percent = Field(
        default=20.0, description="Above this saving ends, %. Default 20."
    )
    battery_dwell_s: Dwell = Field(
        default=10.0,
        description="How long a battery level must hold to end idle or saver, or to raise "
        "battery_low or battery_recovered, seconds. Default 10.",
    )
    battery_low_percent: Percent = Field(
        default=15.0, description="battery_low is raised below this, %. Default 15."
    )
    battery_recovered_percent: Percent = Field(
        default=20.0,
        description="battery_recovered is raised above this, and battery_low after it again, %. "
        "Default 20.",
    )
    harsh_braking_mps2: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=4.0, description="harsh_braking is raised above this, m/s². Default 4."
    )
    harsh_acceleration_mps2: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=3.0, description="harsh_acceleration is raised above this, m/s². Default 3."
    )
    trip_resume_s: Annotated[float, Field(ge=0)] = Field(
        default=900.0,
        description="A trip goes on after a restart if the agent was stopped for less than "
        "this, seconds. Default 900.",
    )

    @model_validator(mode="after")
    def _bands_are_open(self) -> ThresholdSettings:
        for lower, upper in (
            ("trip_leave_speed_kmh", "trip_enter_speed_kmh"),
            ("idle_leave_battery_percent", "idle_enter_battery_percent"),
            ("saver_enter_battery_percent", "saver_leave_battery_percent"),
            ("battery_low_percent", "battery_recovered_percent"),
            ("saver_enter_battery_percent", "idle_leave_battery_percent"),
        ):
            if getattr(self, lower) >= getattr(self, upper):
                raise ValueError(
                    f"{lower} = {getattr(self, lower)} must be below "
                    f"{upper} = {getattr(self, upper)}, or modes would flap"
                )
        return self


class SamplingSettings(Section):
    """``[sampling]``."""

    in_trip: RateSettings = Field(
        default=RateSettings(interval_s=0.2), description="Rate in a trip. Default 0.2 s."
    )
    normal: RateSettings = Field(
        default=RateSettings(interval_s=1.0), description="Rate otherwise. Default 1 s."
    )
    idle: RateSettings = Field(
        default=RateSettings(interval_s=10.0),
        description="Rate when parked with a full battery. Default 10 s.",
    )
    saver: RateSettings = Field(
        default=RateSettings(interval_s=60.0),
        description="Rate when parked with an empty battery. Default 60 s.",
    )
    thresholds: ThresholdSettings = Field(
        default=ThresholdSettings(), description="When modes change."
    )

    def interval_s(self, mode: Mode) -> float:
        """Seconds from sample to sample in ``mode``."""
        rate: RateSettings = getattr(self, mode.value)
        return rate.interval_s
