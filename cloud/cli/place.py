"""Where a command works: in the one-machine cloud's data directory, or on AWS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cloud.cli.common import DATA
from cloud.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """What ``--data``, ``--aws`` and the options beside it say."""

    data_dir: Path
    aws: bool = False
    profile: str | None = None
    region: str | None = None
    stack: str = "milepost"

    def session(self) -> Any:
        """A session of boto3 for AWS.

        Raises:
            ConfigError: there is no such profile, or no region is set.
        """
        import boto3  # noqa: PLC0415  slow
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415  with it

        try:
            session: Any = boto3.session.Session(profile_name=self.profile, region_name=self.region)
        except BotoCoreError as error:
            raise ConfigError(
                f"AWS cannot be asked: {error}",
                hint="`aws configure list-profiles` shows the profiles there are.",
            ) from error
        if session.region_name is None:
            raise ConfigError(
                "AWS cannot be asked: no region is set",
                hint="Give --region, e.g. eu-central-1, or set AWS_REGION.",
            )
        return session


def with_place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and their sum as ``place``."""

    @wraps(command)
    def called(
        *,
        data_dir: Path,
        aws: bool,
        profile: str | None,
        region: str | None,
        stack: str,
        **others: Any,
    ) -> Any:
        asked = aws or profile is not None or region is not None
        return command(place=Place(data_dir, asked, profile, region, stack), **others)

    for option in (
        click.option("--stack", default="milepost", show_default=True, help="With --aws."),
        click.option("--region", help="With --aws: the region; else AWS_REGION or the profile's."),
        click.option("--profile", help="With --aws: a profile of the AWS command line."),
        click.option("--aws", is_flag=True, help="On AWS, not on one machine."),
        DATA,
    ):
        called = option(called)
    return called
