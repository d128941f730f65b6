"""The config and the identity together: what the agent runs with.

A config that names no certificate leaves it to the identity in the state directory, and
one that names no vehicle too; so one config, and one SD card image, serves a whole fleet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.config import AgentSettings, BrokerSettings
from agent.config.parts import ConfigParts
from agent.errors import AgentError, IdentityError
from agent.identity.records import Identity
from agent.identity.store import IdentityStore

PROVISION_HINT: Final = (
    "Run once: milepost-agent provision. Or name vehicle.id, broker.certificate_file and"
    " broker.key_file in the config."
)


def identified(settings: AgentSettings) -> AgentSettings:
    """The settings with vehicle, certificate and key filled in where the config leaves them out.

    Raises:
        IdentityError: the vehicle is not provisioned, or was registered under another
            name than the config says.
        StateError: the state directory cannot be read.
    """
    if settings.vehicle.id and settings.broker.certificate_file is not None:
        return settings
    identity = IdentityStore(settings.state.dir).current()
    if identity is None:
        missing = "vehicle.id" if not settings.vehicle.id else "broker.certificate_file"
        raise IdentityError(
            f"this vehicle is not provisioned yet: the config names no {missing}, and there is"
            f" no identity in {settings.state.dir}",
            hint=PROVISION_HINT,
        )
    if settings.broker.certificate_file is None:
        named = settings.vehicle.id
        if named and named != identity.vehicle_id:
            raise IdentityError(
                f"vehicle.id is {named!r}, and this board was provisioned as"
                f" {identity.vehicle_id!r}",
                hint="Leave vehicle.id away, so that the identity counts; or provision again.",
            )
    vehicle = settings.vehicle
    if not vehicle.id:
        vehicle = vehicle.model_copy(update={"id": identity.vehicle_id})
    return settings.model_copy(
        update={"vehicle": vehicle, "broker": _identified_broker(settings.broker, identity)}
    )


def identified_parts(parts: ConfigParts) -> ConfigParts:
    """The same for ``doctor`` and ``watch``, which look on; raises nothing."""
    try:
        if parts.settings is not None:
            settings = identified(parts.settings)
            return replace(
                parts, settings=settings, vehicle_id=settings.vehicle.id, broker=settings.broker
            )
        identity = IdentityStore(parts.state.dir).current()
        if identity is None or parts.broker is None:
            return parts
        return replace(
            parts,
            vehicle_id=parts.vehicle_id or identity.vehicle_id,
            broker=_identified_broker(parts.broker, identity),
        )
    except AgentError:
        return parts


def _identified_broker(broker: BrokerSettings, identity: Identity) -> BrokerSettings:
    if broker.certificate_file is not None:
        return broker
    token = broker.pkcs11
    if token is not None and identity.key_label is not None:
        token = token.model_copy(update={"key_label": identity.key_label})
    if (token is None) != (identity.key_label is None):
        raise IdentityError(
            "the identity's key is "
            + ("in a PKCS#11 token" if identity.key_label else "in a file")
            + ", and the config says otherwise",
            hint="Let [broker.pkcs11] be as when the vehicle was provisioned, or provision again"
            " with --force.",
        )
    return broker.model_copy(
        update={
            "certificate_file": identity.certificate_file,
            "key_file": identity.key_file,
            "pkcs11": token,
        }
    )
