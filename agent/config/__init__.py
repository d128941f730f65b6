"""The agent's config: one TOML file, read once, never written."""

from agent.config.sections import (
    BrokerSettings,
    DeliverySettings,
    LogFormat,
    LogLevel,
    LogSettings,
    OutboxSettings,
    StateSettings,
    VehicleSettings,
)

__all__ = [
    "BrokerSettings",
    "DeliverySettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "OutboxSettings",
    "StateSettings",
    "VehicleSettings",
]
