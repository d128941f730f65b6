"""``[metrics]``: the account for Prometheus."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.sections import Section


class MetricsSettings(Section):
    """``[metrics]``: the account for Prometheus; see docs/metrics.md."""

    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0,
        description="TCP port of the page that Prometheus reads, e.g. 9464; 0: none. Default 0.",
    )
    address: Annotated[str, AfterValidator(lambda text: str(ip_address(text)))] = Field(
        default="127.0.0.1",
        description="IP address to listen on. The page has no login: any but a loopback address"
        ' shows the account to the network. Default "127.0.0.1".',
    )
