"""Shadows on AWS, through the IoT data plane."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloud.errors import ConfigError, ShadowError, StoreError
from contract.shadow import SHADOW_NAME

_HINTS: Final = {
    403: "Allow iot:GetThingShadow, iot:UpdateThingShadow and iot:DeleteThingShadow on the "
    "thing, or sign in as somebody who may.",
    404: "Is the thing's name the vehicle's id, and has the vehicle connected once?",
}


class AwsShadows:
    """``Shadows`` of the account and region that the client is made for."""

    def __init__(self, iot_data: Any) -> None:
        self._client = iot_data

    def get(self, vehicle_id: str) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._call(self._client.get_thing_shadow, vehicle_id)

    def update(self, vehicle_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._call(
            self._client.update_thing_shadow, vehicle_id, payload=json.dumps(request).encode()
        )

    def delete(self, vehicle_id: str) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._call(self._client.delete_thing_shadow, vehicle_id)

    def _call(self, call: Callable[..., Any], vehicle_id: str, **more: bytes) -> dict[str, Any]:
        try:
            answer = call(thingName=vehicle_id, shadowName=SHADOW_NAME, **more)
            document: dict[str, Any] = json.loads(answer["payload"].read())
        except ClientError as error:
            code = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            if code == 429 or code >= 500:
                raise StoreError(f"AWS IoT: {error}", hint="Try again.") from error
            reason = error.response["Error"].get("Message") or str(error)
            raise ShadowError(code, reason, hint=_HINTS.get(code, "")) from error
        except (BotoCoreError, ValueError) as error:
            raise StoreError(
                f"AWS IoT cannot be asked: {error}",
                hint="Are region and credentials set, e.g. by AWS_PROFILE and AWS_REGION?",
            ) from error
        return document


def aws_shadows() -> AwsShadows:
    """The shadows of the account and region that the environment names.

    Raises:
        ConfigError: no region is set.
    """
    config = Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 3})
    try:
        return AwsShadows(boto3.client("iot-data", config=config))
    except BotoCoreError as error:
        raise ConfigError(
            f"AWS IoT cannot be asked: {error}", hint="Set AWS_REGION, e.g. eu-central-1."
        ) from error
