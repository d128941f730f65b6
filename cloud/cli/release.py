"""``milepost-cloud release``: sign packages, so that vehicles take them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cloud.cli.common import AS_JSON, print_json

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

KEYGEN_EPILOG = """\b
Example:
  milepost-cloud release keygen --out release-key

\b
Put public.pem into /etc/milepost/release-keys/ of each board; keep private.pem off the network.
"""

SIGN_EPILOG = """\b
Examples:
  milepost-cloud release sign milepost-agent_0.2.0_arm64.deb --key release-key/private.pem
  milepost-cloud release sign milepost-agent_0.1.0_arm64.deb --key private.pem --downgrade

\b
Writes milepost-agent_0.2.0_arm64.json beside the package; `jobs update` and
`milepost-agent update` look for it there.
"""


@click.group()
def release() -> None:
    """Packages for vehicles: make a signing key, sign."""


@release.command("keygen", epilog=KEYGEN_EPILOG)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for private.pem and public.pem.",
)
def release_keygen(*, out: Path) -> None:
    """Make a release key (Ed25519)."""
    from cloud.release import PRIVATE, PUBLIC, make_key  # noqa: PLC0415  slow

    make_key(out)
    print(f"{out / PRIVATE}: signs; whoever has it can put software on the fleet")
    print(f"{out / PUBLIC}: for /etc/milepost/release-keys/ of each board")


@release.command("sign", epilog=SIGN_EPILOG)
@click.argument("package", type=FILE)
@click.option("--key", "key_file", type=FILE, required=True, help="private.pem of keygen.")
@click.option("--downgrade", is_flag=True, help="Allow it over a newer version.")
@AS_JSON
def release_sign(*, package: Path, key_file: Path, downgrade: bool, as_json: bool) -> None:
    """Sign PACKAGE (.deb), and write the signature beside it."""
    from cloud.release import sign, write_release  # noqa: PLC0415  slow

    made = sign(package, key_file, downgrade=downgrade)
    target = package.with_suffix(".json")
    write_release(made, target)
    if as_json:
        print_json(asdict(made))
    else:
        print(f"{target}: {made.package} {made.version} for {made.architecture}")
