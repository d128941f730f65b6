"""``milepost-cloud mosquitto``: the same vehicles on a Mosquitto of yours."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cloud.cli.common import DATA
from cloud.cli.registry import opened_registry
from cloud.errors import ConfigError

EPILOG = """\b
Examples:
  milepost-cloud mosquitto --out /etc/mosquitto/milepost --name broker.example.com
  milepost-cloud mosquitto --out /etc/mosquitto/milepost --reader backend

\b
Run it again after each `certs revoke`, `fleet block` or `fleet revoke`, and at least once a
year, and restart Mosquitto: its list of revoked certificates is a file. Files that are there
keep their owner. docs/mosquitto.md has the rest.
"""


@click.command(epilog=EPILOG)
@DATA
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the configuration, the access list and the certificates.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Host name or address that vehicles connect to; more than once for several.",
)
@click.option("--port", type=click.IntRange(1, 65_535), default=8883, show_default=True)
@click.option(
    "--reader",
    "readers",
    multiple=True,
    help="A certificate's name (of `certs issue`) that may read what all vehicles send.",
)
def mosquitto(
    *, data_dir: Path, out: Path, names: tuple[str, ...], port: int, readers: tuple[str, ...]
) -> None:
    """Write a configuration for Mosquitto that keeps vehicles apart."""
    from cloud import mosquitto as files  # noqa: PLC0415  slow
    from cloud.files import write_atomically  # noqa: PLC0415  with it
    from cloud.pki import check_vehicle_id  # noqa: PLC0415  with it

    for name in readers:
        check_vehicle_id(name)
    folder = out.absolute()
    with opened_registry(data_dir) as here:
        now = here.clock.utc()
        outsiders = files.outsiders(here.registry)
        server = here.authority.server_file(names, now)
        revoked = here.authority.revocation_list((one.serial for one in outsiders), now)
        contents = {
            files.CONFIG_NAME: (files.configuration(folder, port).encode(), 0o644),
            files.ACCESS_NAME: (files.access_list(readers).encode(), 0o600),
            files.AUTHORITY_NAME: (here.authority.certificate_file.read_bytes(), 0o644),
            files.SERVER_NAME: (server.read_bytes(), 0o600),
            files.REVOKED_NAME: (revoked, 0o644),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file_name, (content, mode) in contents.items():
                path = folder / file_name
                before = path.stat() if path.exists() else None
                write_atomically(path, content, mode)
                if before is not None and os.geteuid() == 0:
                    os.chown(path, before.st_uid, before.st_gid)  # Mosquitto's, who reads them
        except OSError as error:
            raise ConfigError(
                f"cannot write to {out}: {error.strerror or error}",
                hint="name another folder by --out",
            ) from error
    print(f"{out}: {', '.join(contents)}")
    print(f"{len(outsiders)} certificates are on the list of those that may not connect")
    print("Next, as root:")
    print(f"  chown mosquitto: {folder}/{files.SERVER_NAME} {folder}/{files.ACCESS_NAME}")
    print(f"  ln -s {folder}/{files.CONFIG_NAME} /etc/mosquitto/conf.d/")
    print("  systemctl restart mosquitto")
