"""The transport that the config asks for; the only place that knows that there are two."""

from __future__ import annotations

from collections.abc import Callable

from agent.config import BrokerSettings, TransportKind
from agent.errors import ConfigError
from agent.ports import Clock
from agent.transport.credentials import Credentials
from agent.transport.endpoint import Endpoint, Will
from agent.transport.sessions import SessionTransport


def make_transport(
    broker: BrokerSettings, *, clock: Clock, client_id: str, make_will: Callable[[], Will]
) -> SessionTransport:
    """``make_will`` is asked at each dial.

    Raises:
        ConfigError: awscrt is asked for and not installed.
    """
    endpoint = Endpoint(broker.host, broker.port, client_id, broker.keep_alive_s)
    credentials = Credentials.of(broker)
    # imported where needed: the vehicle has the one and need not have the other
    if broker.transport is TransportKind.AWSCRT:
        _require_awscrt()
        from agent.transport.crt_transport import CrtTransport  # noqa: PLC0415  as above

        return CrtTransport(
            clock=clock, endpoint=endpoint, credentials=credentials, make_will=make_will
        )
    from agent.transport.paho_transport import PahoTransport  # noqa: PLC0415  as above

    return PahoTransport(
        clock=clock, endpoint=endpoint, credentials=credentials, make_will=make_will
    )


def check_transport(broker: BrokerSettings) -> None:
    """See that what the config asks for is there, and that a key in a token can be used.

    Raises:
        ConfigError: awscrt is asked for and not installed.
        IdentityError: the token, its PIN or its key cannot be used.
    """
    if broker.transport is TransportKind.AWSCRT:
        _require_awscrt()
        from agent.transport.crt_tls import CrtTls  # noqa: PLC0415  an optional extra

        CrtTls().context(Credentials.of(broker))


def _require_awscrt() -> None:
    """See that the optional extra is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        import awscrt.mqtt5  # noqa: F401, PLC0415  an optional extra
    except ImportError as error:
        raise ConfigError(
            f'broker.transport = "awscrt": the package awscrt cannot be used ({error})',
            hint="Install it: pip install 'milepost[agent-awscrt]'. Where there is no wheel of it,"
            ' as on armv7, set transport = "paho".',
        ) from None
