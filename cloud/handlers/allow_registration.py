"""The pre-provisioning hook on AWS: may this board register, may this vehicle rotate.

AWS IoT calls it from both provisioning templates and waits for its answer; what it raises
is a refusal, and the board asks again. The decision is ``cloud.provisioning.hook``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cloud.handlers.runtime import Handler, LazyHandler
from cloud.ports import LambdaEvent, LambdaResponse
from cloud.provisioning.hook import allow_registration
from cloud.provisioning.ports import Registrations
from cloud.stores import Stores

NOT_KNOWN: Final = "unknown"
"""In place of an empty parameter: AWS IoT refuses an attribute without a value."""


class AllowRegistration:
    """The handler."""

    def __init__(self, registry: Registrations) -> None:
        self._registry = registry

    def __call__(self, event: LambdaEvent, context: object) -> LambdaResponse:
        """Answer one hook event."""
        del context
        answer = allow_registration(event, self._registry)
        overrides: dict[str, str] = answer["parameterOverrides"]
        filled = {name: value or NOT_KNOWN for name, value in overrides.items()}
        return {**answer, "parameterOverrides": filled}


def build(stores: Stores) -> Handler:
    """The handler on any stores."""
    return AllowRegistration(stores.registry)


handler: Callable[[LambdaEvent, object], LambdaResponse] = LazyHandler(build, "REGISTRATIONS_TABLE")
