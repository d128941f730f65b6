"""Presets: configs for kinds of vehicles, ready but for the vehicle's name and its broker.

A preset is a folder of ``firmware-config/vehicles`` (``agent/vehicles`` in the package): an
``agent.toml`` whose first line says what it is for, and the DBC files that it names.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, StateError
from agent.files import write_atomically

CONFIG_FILE: Final = "agent.toml"
VEHICLE_ID: Final = "VEHICLE_ID"
BROKER_HOST: Final = "BROKER_HOST"
"""Stand in a preset for what only the installer knows."""

_OWN: Final = (
    '[vehicle]\nid = "VEHICLE_ID" # as in the certificate\n\n',
    'certificate_file = "identity/certificate.pem"\nkey_file = "identity/key.pem"\n',
)
"""What a preset names of one vehicle: provisioning knows it, so a fleet's config leaves it out."""

_CA_FILE: Final = ('ca_file = "identity/ca.pem"', 'ca_file = "ca.pem"')
"""Beside a certificate of the vehicle's own, and without one."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One kind of vehicle."""

    name: str
    folder: Path

    @property
    def text(self) -> str:
        """Its ``agent.toml``."""
        return (self.folder / CONFIG_FILE).read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """What it is for, in a line."""
        return self.text.split("\n", 1)[0].removeprefix("#").strip()

    @property
    def dbcs(self) -> list[Path]:
        """The DBC files that come with it."""
        return sorted(self.folder.glob("*.dbc"))


def presets() -> list[Preset]:
    """All of them, by name."""
    folder = Path(str(resources.files("agent"))) / "vehicles"
    return sorted(
        (Preset(path.parent.name, path.parent) for path in folder.glob(f"*/{CONFIG_FILE}")),
        key=lambda preset: preset.name,
    )


def find(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: there is none; names those there are.
    """
    known = {preset.name: preset for preset in presets()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"there is no preset {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        hint=f"There are {', '.join(known)}.",
    )


def install(
    preset: Preset, folder: Path, *, vehicle_id: str | None, broker_host: str | None, force: bool
) -> list[Path]:
    """Write the preset's files into ``folder``, with what is known filled in.

    Without ``vehicle_id`` the config is a fleet's: vehicle and certificate come with
    provisioning.

    Raises:
        ConfigError: a file is there already and differs, and ``force`` is not given.
        StateError: a file cannot be written.
    """
    text = preset.text
    if vehicle_id is None:
        for own in _OWN:
            text = text.replace(own, "")
        text = text.replace(*_CA_FILE)
    for mark, value in ((VEHICLE_ID, vehicle_id), (BROKER_HOST, broker_host)):
        if value is not None:
            # a JSON string is a TOML basic string
            text = text.replace(f'"{mark}"', json.dumps(value))
    contents = {folder / dbc.name: dbc.read_bytes() for dbc in preset.dbcs}
    contents[folder / CONFIG_FILE] = text.encode()
    try:
        for path, content in contents.items():
            if not force and path.exists() and path.read_bytes() != content:
                raise ConfigError(
                    f"{path} is there already, and it is another one",
                    hint="Write into another folder with --out, or over it with --force.",
                )
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            write_atomically(path, content)
    except OSError as error:
        raise StateError(
            f"cannot write into {folder}: {error.strerror}",
            hint="Choose a folder that you may write to with --out, or use sudo.",
        ) from None
    return list(contents)
