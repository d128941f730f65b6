"""The sections of the config file that have nothing to do with a source, key by key.

Every key has its description with unit and default here, and nowhere else. A key that
names a file is resolved against the folder of the config file by ``load``.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from contract.fields import VEHICLE_ID_PATTERN

FilePath = Annotated[Path, Field(strict=False)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Host = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Section(BaseModel):
    """One table of the config file: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class VehicleSettings(Section):
    """``[vehicle]``: who this is."""

    id: Annotated[
        str,
        Field(
            pattern=VEHICLE_ID_PATTERN,
            description="The vehicle's name in topics, the MQTT client id and the common "
            'name of its certificate, e.g. "van-1". Default: the name under which '
            "`milepost-agent provision` registered it, so that one config serves a fleet.",
        ),
    ] = ""


class StateSettings(Section):
    """``[state]``: where the agent keeps what it must remember."""

    dir: FilePath = Field(
        default=Path("/var/lib/milepost"),
        description="Outbox, trip state and last account; survives reboots. "
        "Default /var/lib/milepost.",
    )
    runtime_dir: FilePath = Field(
        default=Path("/run/milepost"),
        description="Control socket; a tmpfs, so that it never wears the flash. "
        "Default /run/milepost.",
    )


class OutboxSettings(Section):
    """``[outbox]``: how unsent samples are kept."""

    flush_interval_s: Annotated[float, Field(ge=0.05, le=60)] = Field(
        default=1.0,
        description="Seconds an unacknowledged message may live in memory alone; what a "
        "power cut can lose. Default 1.",
    )
    max_mb: Annotated[float, Field(ge=1, le=1_000_000)] = Field(
        default=256, description="Size limit of the outbox on disk, megabytes. Default 256."
    )
    max_age_days: Annotated[float, Field(gt=0, le=3_650)] = Field(
        default=30, description="Age limit of an unsent message, days. Default 30."
    )


class DeliverySettings(Section):
    """``[delivery]``: how messages are published."""

    in_flight: Annotated[int, Field(ge=1, le=100)] = Field(
        default=20,
        description="Publishes that may await their PUBACK, count. AWS IoT Core allows 100. "
        "Default 20.",
    )
    batch_s: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=0,
        description="Seconds of live samples to gather into one message; 0 sends each at "
        "once. Default 0.",
    )
    max_publishes_per_s: Annotated[float, Field(gt=0, le=100_000)] = Field(
        default=80,
        description="Publishes per second, live and backlog together. AWS IoT Core stops "
        "answering above 100. Default 80.",
    )
    max_bytes_per_s: Annotated[float, Field(ge=1_000)] = Field(
        default=400_000,
        description="Payload bytes per second. AWS IoT Core allows 512,000. Default 400000.",
    )
    hold_unsynced_s: Annotated[float, Field(ge=0, le=31_536_000)] = Field(
        default=900,
        description="Seconds that messages wait for a trusted time (GPS or NTP) before they are "
        "sent with the board's own; they are re-stamped when it comes. Default 900.",
    )
    shutdown_drain_s: Annotated[float, Field(ge=0, le=600)] = Field(
        default=10,
        description="Seconds an orderly stop goes on delivering before the rest is left in "
        "the outbox. Default 10.",
    )
    basic_ingest_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{0,100}$")] = Field(
        default="",
        description="Common prefix of the IoT rules' names to publish through Basic Ingest, "
        'e.g. "milepost"; "" publishes on plain topics. Default "".',
    )


class BudgetSettings(Section):
    """``[budget]``: what a day may cost; see docs/budgets.md."""

    data_mb_per_day: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        default=0,
        description="Mobile data a day, sent and received on the broker's connection, TLS and "
        "TCP/IP included, megabytes; 0 is no cap. Default 0: what a contract includes is not "
        "known here, and holding samples back unasked would surprise.",
    )
    flash_mb_per_day: Annotated[float, Field(ge=0, le=10_000_000)] = Field(
        default=1_000,
        description="Bytes the agent may write to storage a day, megabytes; 0 is no cap. "
        "Default 1000: used up every day, it wears out a 32 GB card in about five years.",
    )
    near_percent: Annotated[float, Field(gt=0, le=100)] = Field(
        default=80, description="From here on a budget is used sparingly, % of it. Default 80."
    )
    trickle_s: Annotated[float, Field(ge=10, le=86_400)] = Field(
        default=900,
        description="Seconds from one sample, and one status, to the next while the data budget "
        "is used up. Default 900.",
    )
    day_spread_s: Annotated[float, Field(ge=0, le=43_200)] = Field(
        default=3_600,
        description="A day begins at 00:00 UTC and up to so many seconds later, each vehicle at "
        "its own moment, so that a fleet does not empty its outboxes at once. Default 3600.",
    )


class TransportKind(StrEnum):
    """Which MQTT library carries the messages."""

    PAHO = "paho"
    """MQTT 3.1.1; runs everywhere."""

    AWSCRT = "awscrt"
    """MQTT 5 and PKCS#11 keys; the extra agent-awscrt, not on armv7."""


PIN_CREDENTIAL: Final = "pkcs11-pin"
PIN_STORE: Final = Path("/etc/credstore/milepost.pkcs11-pin")
"""As in the units' ``LoadCredential=``."""


class Pkcs11Settings(Section):
    """``[broker.pkcs11]``: a private key that never leaves its token."""

    module_file: FilePath = Field(
        description="The token's PKCS#11 library, e.g. "
        '"/usr/lib/aarch64-linux-gnu/libtpm2_pkcs11.so.1". Required.'
    )
    token_label: Annotated[
        str, Field(min_length=1, description="Label of the token that holds the key. Required.")
    ]
    key_label: Annotated[
        str,
        Field(
            min_length=1,
            description="Label of the private key in it. Keys that provisioning and rotation make "
            "there have a number behind it, e.g. vehicle-key-1. Required.",
        ),
    ]
    pin_file: FilePath | None = Field(
        default=None,
        description="File with the token's user PIN and nothing else, mode 0600. Default: what "
        "systemd passes to the unit from `/etc/credstore/milepost.pkcs11-pin` "
        "([systemd.md](systemd.md)).",
    )

    @property
    def pin_path(self) -> Path:
        """``pin_file``; else systemd's copy for this unit; outside of one, where that is from."""
        if self.pin_file is not None:
            return self.pin_file
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        return Path(folder, PIN_CREDENTIAL) if folder else PIN_STORE


class BrokerSettings(Section):
    """``[broker]``: the MQTT broker and the vehicle's identity towards it."""

    host: Host = Field(description="Name or address of the broker. Required.")
    port: Port = Field(default=8883, description="TCP port of MQTT over TLS. Default 8883.")
    ca_file: FilePath = Field(
        description="PEM file with the CA that signed the broker's certificate. Required."
    )
    certificate_file: FilePath | None = Field(
        default=None,
        description="PEM file with the vehicle's certificate. Default: the identity that "
        "`milepost-agent provision` left in `state.dir` ([provisioning.md](provisioning.md)).",
    )
    key_file: FilePath | None = Field(
        default=None,
        description="PEM file with its private key, mode 0600. Required with `certificate_file`, "
        "unless [broker.pkcs11] names a key in a token. No default.",
    )
    pkcs11: Pkcs11Settings | None = Field(
        default=None,
        description="A private key in a TPM, secure element or HSM, in place of `key_file`; needs "
        '`transport = "awscrt"`. Without `certificate_file`, provisioning makes the key there. '
        "No default.",
    )
    transport: Annotated[TransportKind, Field(strict=False)] = Field(
        default=TransportKind.PAHO,
        description='MQTT library: "paho" (MQTT 3.1.1), or "awscrt" (MQTT 5; install '
        'milepost[agent-awscrt]; no wheels for armv7). Default "paho".',
    )
    keep_alive_s: Annotated[int, Field(ge=5, le=1_200)] = Field(
        default=60,
        description="MQTT keep-alive, seconds. AWS IoT Core takes 30 to 1200. Default 60.",
    )
    server_name: Annotated[str, Field(max_length=255)] = Field(
        default="",
        description='Name to check the broker\'s certificate against; "" checks host. Only with '
        'transport "paho". Default "".',
    )

    @model_validator(mode="after")
    def _one_key(self) -> BrokerSettings:
        if self.certificate_file is None and self.key_file is not None:
            raise ValueError("certificate_file is missing, whose key key_file is")
        if self.certificate_file is not None and self.key_file is None and self.pkcs11 is None:
            raise ValueError("key_file is required and missing (or a [broker.pkcs11] table)")
        if self.key_file is not None and self.pkcs11 is not None:
            raise ValueError("has key_file and [broker.pkcs11]; the vehicle has one key, keep one")
        if self.transport is not TransportKind.AWSCRT:
            if self.pkcs11 is not None:
                raise ValueError('[broker.pkcs11] needs transport = "awscrt"')
        elif self.server_name not in {"", self.host}:
            raise ValueError(
                'transport = "awscrt" checks the broker\'s certificate against host;'
                ' leave server_name away, or set transport = "paho"'
            )
        return self


class ShadowMode(StrEnum):
    """Whether settings may be changed from afar."""

    ON = "on"
    """What the vehicle's shadow asks for lies over this file."""

    OFF = "off"
    """This file alone counts, and the shadow is not asked."""


class ShadowSettings(Section):
    """``[shadow]``: settings that the operator changes from afar; see docs/shadow.md."""

    mode: Annotated[ShadowMode, Field(strict=False)] = Field(
        default=ShadowMode.ON,
        description="on: keys that are marked as live below may be changed by the vehicle's named "
        "shadow `milepost`, without a restart. off: this file alone counts, also over what the "
        "shadow asked for before. Default on.",
    )


class LogLevel(StrEnum):
    """How much is logged; each level includes those after it."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    """For people and the journal."""

    JSON = "json"
    """One JSON object a line, for log shippers."""


class LogSettings(Section):
    """``[log]``: what goes to standard error."""

    level: Annotated[LogLevel, Field(strict=False)] = Field(
        default=LogLevel.INFO, description="debug, info, warning or error. Default info."
    )
    format: Annotated[LogFormat, Field(strict=False)] = Field(
        default=LogFormat.TEXT, description="text or json. Default text."
    )
