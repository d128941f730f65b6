"""The settings in force for those who look on: ``doctor``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.config.parts import USED, ConfigParts
from agent.errors import AgentError
from agent.layer.config_layer import ConfigLayer


def layered_parts(parts: ConfigParts, config_file: Path) -> ConfigParts:
    """With what a job has laid over the file, where the file is good; raises nothing."""
    if parts.settings is None:
        return parts
    try:
        layer = ConfigLayer(config_file)
        settings = layer.preview(layer.in_force().settings)
    except AgentError:
        return parts
    return replace(parts, settings=settings, **{name: getattr(settings, name) for name in USED})
