"""What a deployed stack tells of itself: the names of its tables and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloud.errors import ConfigError

CONFIG: Final = Config(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 4}
)
"""How boto3 asks, everywhere."""


def stack_outputs(session: Any, stack: str, *needed: str) -> Mapping[str, str]:
    """The stack's outputs.

    Raises:
        ConfigError: there is no such stack here, or it lacks one of those that are needed.
    """
    try:
        described = session.client("cloudformation", config=CONFIG).describe_stacks(StackName=stack)
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"cannot look up the stack {stack!r}: {error}",
            hint="Are you signed in, with the right region? `aws cloudformation list-stacks`"
            " shows what there is.",
        ) from error
    outputs = {
        one["OutputKey"]: one["OutputValue"] for one in described["Stacks"][0].get("Outputs", [])
    }
    if missing := [name for name in needed if name not in outputs]:
        raise ConfigError(
            f"the stack {stack!r} has no output {', '.join(missing)}",
            hint="Deploy the template of this version; see docs/cloud-deploy.md.",
        )
    return outputs
