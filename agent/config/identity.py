"""The section of the config file that rotation reads; see docs/rotation.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.config.sections import Section
from contract.provisioning import ROTATION


class IdentitySettings(Section):
    """``[identity]``: when the vehicle gets its next certificate by itself."""

    template_name: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,36}$")] = Field(
        default=ROTATION,
        description="Provisioning template to rotate with; on AWS the deployed stack's RulePrefix "
        f'stands before "_rotation". Default "{ROTATION}".',
    )
    rotate_before_days: Annotated[float, Field(ge=0, le=3_650)] = Field(
        default=30,
        description="Days before the certificate expires from which on it is rotated, a third of "
        "its life at most; 0 is never for its expiry. Default 30.",
    )
    rotate_after_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        default=0,
        description="Days after which a certificate is rotated however long it would be valid, "
        "e.g. 365; AWS IoT Core's own are valid until 2049. 0 is never for its age. Default 0.",
    )
