"""The agent's config: one TOML file, read once, never written."""

from agent.config.can import CanSettings, FieldKind, Match, SignalSettings, Stat, field_kind
from agent.config.identity import IdentitySettings
from agent.config.jobs import JobsMode, JobsSettings
from agent.config.load import AgentSettings, load, parse
from agent.config.metrics import MetricsSettings
from agent.config.obd import J1939Settings, ObdSettings
from agent.config.provision import ProvisionSettings
from agent.config.sampling import (
    RateSettings,
    SamplingSettings,
    ThresholdSettings,
    UnknownBattery,
)
from agent.config.sections import (
    BrokerSettings,
    BudgetSettings,
    DeliverySettings,
    LogFormat,
    LogLevel,
    LogSettings,
    OutboxSettings,
    Pkcs11Settings,
    ShadowMode,
    ShadowSettings,
    StateSettings,
    TransportKind,
    VehicleSettings,
)
from agent.config.serial import SerialSettings, UbloxCycle
from agent.config.sources import GpsSettings, GpsSource, PositionSettings, Standing

__all__ = [
    "AgentSettings",
    "BrokerSettings",
    "BudgetSettings",
    "CanSettings",
    "DeliverySettings",
    "FieldKind",
    "GpsSettings",
    "GpsSource",
    "IdentitySettings",
    "J1939Settings",
    "JobsMode",
    "JobsSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Match",
    "MetricsSettings",
    "ObdSettings",
    "OutboxSettings",
    "Pkcs11Settings",
    "PositionSettings",
    "ProvisionSettings",
    "RateSettings",
    "SamplingSettings",
    "SerialSettings",
    "ShadowMode",
    "ShadowSettings",
    "SignalSettings",
    "Standing",
    "Stat",
    "StateSettings",
    "ThresholdSettings",
    "TransportKind",
    "UbloxCycle",
    "UnknownBattery",
    "VehicleSettings",
    "field_kind",
    "load",
    "parse",
]
