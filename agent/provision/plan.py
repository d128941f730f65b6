"""What is to be sent, and how: worked out from config and board before anything is dialled."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config import AgentSettings
from agent.errors import ConfigError, IdentityError
from agent.ports import Clock
from agent.provision.board import Told, mac_address, serial_number
from agent.provision.claim import Claim
from agent.provision.failures import Cause, ProvisionError
from agent.provision.service import ProvisioningService
from agent.transport.endpoint import Endpoint
from contract.provisioning import CLAIM_CLIENT_PREFIX, Parameter

_MOST_CLIENT_ID: Final = 128
"""AWS IoT Core, bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to ask, as which client, and with what."""

    endpoint: Endpoint
    template: str
    parameters: dict[str, Told]

    @property
    def values(self) -> dict[str, str]:
        """The parameters as they are sent."""
        return {name: told.value for name, told in self.parameters.items()}


def make_plan(settings: AgentSettings, root: Path = Path("/")) -> Plan:
    """Read the board's facts; the config's ``provision.parameters`` lie over them.

    Raises:
        ConfigError: neither board nor config tell a serial number.
    """
    wanted = settings.provision
    told: dict[str, Told | None] = {
        Parameter.SERIAL_NUMBER.value: serial_number(root),
        Parameter.MAC_ADDRESS.value: mac_address(root),
        Parameter.VIN.value: Told(wanted.vin, "provision.vin") if wanted.vin else None,
    }
    told |= {
        name: Told(value, f"provision.parameters.{name}")
        for name, value in wanted.parameters.items()
    }
    parameters = {name: one for name, one in told.items() if one is not None}
    serial = parameters.get(Parameter.SERIAL_NUMBER.value)
    if serial is None:
        raise ConfigError(
            "this board tells no serial number",
            hint='Give it one in the config: provision.parameters = { SerialNumber = "..." }.',
        )
    name = re.sub(r"[^A-Za-z0-9:_-]", "-", serial.value)
    endpoint = Endpoint(
        settings.broker.host,
        settings.broker.port,
        f"{CLAIM_CLIENT_PREFIX}{name}"[:_MOST_CLIENT_ID],
        settings.broker.keep_alive_s,
    )
    return Plan(endpoint, wanted.template_name, parameters)


def connector(
    settings: AgentSettings, plan: Plan, claim: Claim, clock: Clock
) -> Callable[[], ProvisioningService]:
    """What connects to the service: AWS's client where it is installed, else paho.

    awscrt checks the broker's certificate against the host alone, so a
    ``broker.server_name`` of its own takes paho too.
    """
    has_sdk = importlib.util.find_spec("awsiot") and importlib.util.find_spec("awscrt")
    timeout_s = settings.provision.answer_timeout_s

    def connect() -> ProvisioningService:
        try:
            if has_sdk and settings.broker.server_name in {"", settings.broker.host}:
                from agent.provision.sdk import SdkService  # noqa: PLC0415  not on armv7

                return SdkService(plan.endpoint, claim.credentials, timeout_s=timeout_s)
            from agent.provision.mqtt import MqttService  # noqa: PLC0415  only where it is used

            return MqttService(plan.endpoint, claim.credentials, timeout_s=timeout_s, clock=clock)
        except IdentityError as error:
            raise ProvisionError(
                Cause.CLAIM_UNUSABLE, f"the claim certificate: {error.message}", hint=error.hint
            ) from error

    return connect
