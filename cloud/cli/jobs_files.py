"""``milepost-cloud jobs update`` and ``jobs diagnostics``: jobs with files."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.cli.common import AS_JSON
from cloud.cli.jobs import TIMEOUT, WAIT, create_job
from cloud.cli.place import Place, with_place
from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.job_files import JobFiles

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FILES_PORT = click.option(
    "--files-port",
    type=click.IntRange(1, 65_535),
    help="Of the one-machine cloud. Default: the one that the running cloud has.",
)
BUCKET = click.option("--bucket", help="With --aws: the S3 bucket for the files.")

UPDATE_EPILOG = """\b
Examples:
  milepost-cloud release sign milepost-agent_0.2.0_arm64.deb --key release-key/private.pem
  milepost-cloud jobs update --deb milepost-agent_0.2.0_arm64.deb van-1 van-2 --wait 1800
  milepost-cloud jobs update --deb milepost-agent_0.2.0_arm64.deb van-1 --aws --bucket my-releases

\b
The vehicle takes it if a release key of the board has signed it, and goes back to the version
before unless it is well afterwards: docs/update.md.
"""

DIAGNOSTICS_EPILOG = """\b
Examples:
  milepost-cloud jobs diagnostics van-1 --wait 300
  milepost-cloud jobs diagnostics van-1 --aws --bucket my-diagnostics

\b
What is in it, and what never is: docs/diagnostics.md.
"""


@click.command("update", epilog=UPDATE_EPILOG)
@click.argument("vehicle_ids", nargs=-1, required=True, metavar="VEHICLE...")
@click.option("--deb", "package", type=FILE, required=True, help="The signed package.")
@click.option(
    "--signature",
    "signature_file",
    type=FILE,
    help="What `release sign` wrote. Default: the package's name with .json.",
)
@click.option(
    "--health-timeout",
    "health_timeout_s",
    type=click.IntRange(30, 86_400),
    default=900,
    show_default=True,
    help="Seconds that the new version has to reach the cloud before it is rolled back.",
)
@TIMEOUT
@WAIT
@BUCKET
@FILES_PORT
@with_place
@AS_JSON
def jobs_update(
    *,
    vehicle_ids: tuple[str, ...],
    package: Path,
    signature_file: Path | None,
    health_timeout_s: int,
    timeout_minutes: int | None,
    wait_s: float,
    bucket: str | None,
    files_port: int | None,
    place: Place,
    as_json: bool,
) -> None:
    """Have vehicles install a signed package, and roll back unless they are well."""
    from cloud.release import read_release  # noqa: PLC0415  slow
    from contract.jobs import JobDocument, OperationName  # noqa: PLC0415  likewise

    signed = read_release(signature_file or package.with_suffix(".json"), package)
    document = JobDocument(
        OperationName.UPDATE,
        {
            "version": signed.version,
            "architecture": signed.architecture,
            "url": files_of(place, bucket, files_port).publish(package),
            "sha256": signed.sha256,
            "size_bytes": signed.size_bytes,
            "signature": signed.signature,
            "downgrade": signed.downgrade,
            "health_timeout_s": health_timeout_s,
        },
    )
    create_job(
        document,
        vehicle_ids,
        place=place,
        description=f"{signed.package} {signed.version} for {signed.architecture}",
        timeout_minutes=timeout_minutes,
        wait_s=wait_s,
        as_json=as_json,
    )


@click.command("diagnostics", epilog=DIAGNOSTICS_EPILOG)
@click.argument("vehicle_ids", nargs=-1, required=True, metavar="VEHICLE...")
@click.option("--with-samples", is_flag=True, help="Also what waits in the outbox: positions!")
@TIMEOUT
@WAIT
@BUCKET
@FILES_PORT
@with_place
@AS_JSON
def jobs_diagnostics(
    *,
    vehicle_ids: tuple[str, ...],
    with_samples: bool,
    timeout_minutes: int | None,
    wait_s: float,
    bucket: str | None,
    files_port: int | None,
    place: Place,
    as_json: bool,
) -> None:
    """Have vehicles send what an engineer needs to find a fault, without secrets."""
    from contract.jobs import JobDocument, OperationName  # noqa: PLC0415  slow

    if place.aws and len(vehicle_ids) > 1:
        raise ConfigError(
            "a pre-signed URL takes the file of one vehicle", hint="ask them one after the other"
        )
    files = files_of(place, bucket, files_port)
    job_id = f"diagnostics-{secrets.token_hex(4)}"
    url = files.upload_url(vehicle_ids[0], job_id)
    if not as_json:
        for vehicle_id in vehicle_ids:
            print(f"{vehicle_id}: will be {files.place(vehicle_id, job_id)}")
    create_job(
        JobDocument(
            OperationName.COLLECT_DIAGNOSTICS, {"upload_url": url, "with_samples": with_samples}
        ),
        vehicle_ids,
        place=place,
        job_id=job_id,
        timeout_minutes=timeout_minutes,
        wait_s=wait_s,
        as_json=as_json,
    )


def files_of(place: Place, bucket: str | None, files_port: int | None) -> JobFiles:
    """The one-machine cloud's, or a bucket.

    Raises:
        ConfigError: with ``--aws`` no bucket is named, or AWS cannot be asked.
    """
    from cloud.job_files import OneMachineFiles, S3Files  # noqa: PLC0415  slow

    if not place.aws:
        return OneMachineFiles(place.data_dir, files_port)
    if bucket is None:
        raise ConfigError("with --aws the files go to a bucket", hint="name yours by --bucket")
    return S3Files(place.session().client("s3"), bucket)
