"""The broker, one layer after the other: name, TCP, TLS, MQTT.

A second connection with the vehicle's id would throw the running agent off the broker
(MQTT-3.1.4-2), and another id is refused by the usual policy. So MQTT is tried only where no
agent runs; where one does, it is asked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.config import BrokerSettings
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.patience import Call
from agent.doctor.programs import read_text
from agent.doctor.subject import Running, Subject
from agent.errors import IdentityError
from agent.host import boottime_s, kernel_is_synchronised
from agent.transport import Credentials
from agent.transport.tls import Failure, explain, make_context
from contract import TimeQuality

STEP_S: Final = 6.0
"""Per layer; a bad mobile link takes 1 s for each round trip."""

VERDICT_S: Final = 1.0
"""In TLS 1.3 the broker judges the vehicle after the handshake: wait so long for its alert."""

SLOW_S: Final = 5.0

NO_CONFIG: Final = Kind(
    "broker-not-checked", Severity.INFO, "not checked: [broker] is missing or cannot be used"
)
NO_NETWORK: Final = Kind(
    "broker-no-network",
    Severity.ERROR,
    "this board has no route to the network: neither Ethernet, Wi-Fi nor a modem is connected",
    "ip -brief address && ip route && nmcli device",
    "Samples wait in the outbox meanwhile; nothing is lost.",
)
NO_NAME: Final = Kind(
    "broker-no-name",
    Severity.ERROR,
    "the broker's name {host} cannot be resolved: {reason}",
    "getent hosts {host}; cat /etc/resolv.conf",
    "Correct broker.host, or the DNS server that the network gives.",
)
REFUSED: Final = Kind(
    "broker-refused",
    Severity.ERROR,
    "nothing listens at {host}:{port}",
    "sudo ss -ltn 'sport = :{port}'",
    "Run that on the broker's machine; start the broker, or correct broker.port.",
)
UNREACHABLE: Final = Kind(
    "broker-unreachable",
    Severity.ERROR,
    "{host}:{port} does not answer: {reason}",
    "ping -c 3 {host}; nc -vz -w 5 {host} {port}",
    "A firewall between may block the port; AWS IoT Core needs 8883 outgoing.",
)
TLS: Final = Kind(
    "broker-tls",
    Severity.ERROR,
    "TLS with {host}:{port}: {reason}",
    "openssl s_client -connect {host}:{port} -servername {name} -CAfile {ca} -cert {cert} "
    "-key {key} </dev/null",
)
CLIENT_REFUSED: Final = Kind(
    "broker-client-refused",
    Severity.ERROR,
    "the broker does not let {vehicle_id} connect: {reason}",
    "milepost-cloud certs list",
    "On AWS IoT Core: the certificate must be active, have a policy that allows iot:Connect, and "
    "be attached to the thing of that name.",
)
MQTT_SILENT: Final = Kind(
    "broker-mqtt-silent",
    Severity.ERROR,
    "{host}:{port} speaks TLS, but not MQTT: {reason}",
    "openssl s_client -connect {host}:{port} -servername {name} -CAfile {ca} -cert {cert} "
    "-key {key} </dev/null",
    "broker.port may be that of another service; MQTT over TLS is 8883 as a rule.",
)
AGENT_OFFLINE: Final = Kind(
    "broker-agent-offline",
    Severity.WARNING,
    "the broker can be reached, but the running agent is not connected ({waiting} messages wait)",
    "journalctl -u milepost-agent -n 50 --no-pager",
    "It tries again by itself; after a refusal only every few minutes.",
)
SLOW: Final = Kind(
    "broker-slow",
    Severity.INFO,
    "the way to the broker is slow: {took_s:.1f} s for name, TCP and TLS",
    "ping -c 10 {host}",
)
KEY_NOT_SHOWN: Final = Kind(
    "broker-identity-not-tried",
    Severity.INFO,
    "{host}:{port} is there; whether it takes this vehicle was not tried: {why}",
)
CONNECTED: Final = Kind(
    "broker-agent-connected", Severity.OK, "the running agent is connected to {host}:{port}"
)
GOOD: Final = Kind(
    "broker-good", Severity.OK, "{host}:{port} accepts {vehicle_id} ({took_s:.1f} s)"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """How far it came. ``took_s`` is for name, TCP and TLS together."""

    host: str = ""
    port: int = 0
    server_name: str = ""
    credentials: Credentials | None = None
    vehicle_id: str = ""
    running: Running = Running.NO
    agent_connected: bool | None = None
    agent_waiting: int = 0
    has_route: bool = True
    name_error: str = ""
    refused: bool = False
    tcp_error: str = ""
    tls_error: str = ""
    took_s: float = 0.0
    not_tried: str = ""
    """Why no MQTT connection was tried; empty when one was."""
    mqtt_refusal: str = ""
    mqtt_error: str = ""


def gather(subject: Subject) -> Facts | None:
    """Dial as far as it goes; ``None`` without ``[broker]``."""
    broker = subject.parts.broker
    if broker is None:
        return None
    account = subject.account
    facts: dict[str, Any] = {
        "host": broker.host,
        "port": broker.port,
        "server_name": broker.server_name or broker.host,
        "credentials": Credentials.of(broker),
        "vehicle_id": subject.parts.vehicle_id or "",
        "running": subject.running,
        "agent_connected": account.get("connected") if account else None,
        "agent_waiting": account.get("backlog_messages", 0) if account else 0,
        "has_route": _is_here(broker.host) or _has_route(),
    }
    started_s = boottime_s()
    facts |= _reach(broker)
    if not any(facts.get(step) for step in ("name_error", "tcp_error", "refused")):
        facts |= _speak_tls(broker, facts["credentials"])
        facts["took_s"] = boottime_s() - started_s
        if not facts.get("tls_error") and not facts.get("not_tried"):
            facts |= _speak_mqtt(broker, subject)
    return Facts(**facts)


def check(facts: Facts | None) -> Iterator[Finding]:
    """Findings of the broker."""
    if facts is None:
        yield NO_CONFIG()
        return
    where: dict[str, Any] = {"host": facts.host, "port": facts.port}
    if facts.agent_connected:
        yield CONNECTED(**where)
        return
    blocked = _blocked(facts, where)
    if blocked is not None:
        yield blocked
        return
    if facts.took_s > SLOW_S:
        yield SLOW(host=facts.host, took_s=facts.took_s)
    if facts.agent_connected is False:
        yield AGENT_OFFLINE(waiting=facts.agent_waiting)
    elif facts.not_tried:
        yield KEY_NOT_SHOWN(**where, why=facts.not_tried)
    else:
        yield GOOD(**where, vehicle_id=facts.vehicle_id, took_s=facts.took_s)


def _blocked(facts: Facts, where: dict[str, Any]) -> Finding | None:
    """The lowest layer that fails."""
    if (facts.name_error or facts.tcp_error) and not facts.has_route:
        return NO_NETWORK()
    if facts.name_error:
        return NO_NAME(host=facts.host, reason=facts.name_error)
    if facts.refused:
        return REFUSED(**where)
    if facts.tcp_error:
        return UNREACHABLE(**where, reason=facts.tcp_error)
    files = {
        "name": facts.server_name,
        "ca": facts.credentials.ca_file if facts.credentials else "",
        "cert": facts.credentials.certificate_file if facts.credentials else "",
        "key": (facts.credentials.key_file if facts.credentials else None) or "",
    }
    if facts.tls_error:
        return TLS(**where, **files, reason=facts.tls_error)
    if facts.mqtt_refusal:
        return CLIENT_REFUSED(vehicle_id=facts.vehicle_id, reason=facts.mqtt_refusal)
    if facts.mqtt_error:
        return MQTT_SILENT(**where, **files, reason=facts.mqtt_error)
    return None


def _is_here(host: str) -> bool:
    """Whether it is this machine, which needs no route."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_route() -> bool:
    """Whether there is a default route, or any beside those of the interfaces' own networks."""
    routes = (read_text("/proc/net/route") or "").splitlines()[1:]
    via_gateway = any(len(line.split()) > 2 and line.split()[2] != "00000000" for line in routes)
    routes6 = (read_text("/proc/net/ipv6_route") or "").splitlines()
    # a default route of IPv6: ::/0 on another interface than lo
    default6 = any(
        line.startswith("0" * 32 + " 00") and not line.endswith("lo") for line in routes6
    )
    point_to_point = any(line.split()[1:2] == ["00000000"] for line in routes)
    return via_gateway or default6 or point_to_point


def _reach(broker: BrokerSettings) -> dict[str, Any]:
    try:
        addresses = Call(
            lambda: socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM),
            "doctor-resolve",
        ).result(STEP_S)
    except TimeoutError:
        return {"name_error": "the DNS server does not answer"}
    except OSError as error:
        return {"name_error": error.strerror or str(error)}
    found: dict[str, Any] = {}
    for family, kind, protocol, _, address in addresses[:4]:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(STEP_S / 2)
            try:
                probe.connect(address)
            except ConnectionRefusedError:
                found = {"refused": True}
            except OSError as error:
                found = {"tcp_error": error.strerror or str(error)}
            else:
                return {}
    return found


def _speak_tls(broker: BrokerSettings, credentials: Credentials) -> dict[str, Any]:
    facts = {}
    if credentials.pkcs11 is not None:
        facts["not_tried"] = "its key is in a token"
    try:
        context = make_context(replace(credentials, pkcs11=None))
        with (
            socket.create_connection((broker.host, broker.port), STEP_S) as connection,
            context.wrap_socket(connection) as tls,
        ):
            tls.settimeout(VERDICT_S)
            with contextlib.suppress(TimeoutError):
                tls.recv(1)
    except IdentityError as error:
        if isinstance(error.__cause__, PermissionError):
            return {"not_tried": "this user may not read its key"}
        return {"tls_error": f"{error.message}. {error.hint}"}
    except (OSError, ssl.SSLError) as error:
        misses_certificate = facts and not isinstance(error, ssl.SSLCertVerificationError)
        return facts if misses_certificate else {"tls_error": _explained(error, credentials).reason}
    return facts


def _explained(error: OSError, credentials: Credentials) -> Failure:
    quality = TimeQuality.NTP if kernel_is_synchronised() else TimeQuality.UNSYNCED
    return explain(error, credentials.server_name, quality)


def _speak_mqtt(broker: BrokerSettings, subject: Subject) -> dict[str, Any]:
    if subject.running is Running.YES:
        return {"not_tried": "an agent runs, and a second connection would throw it off"}
    if subject.running is Running.UNKNOWN:
        return {"not_tried": "an agent of another user may run; ask as that user, or with sudo"}
    vehicle_id = subject.parts.vehicle_id
    if vehicle_id is None:
        return {"not_tried": "vehicle.id is missing or cannot be used"}
    from paho.mqtt import client as mqtt  # noqa: PLC0415  only where it is tried
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415  likewise

    answered = threading.Event()
    verdict: dict[str, Any] = {}

    def on_connect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            verdict["mqtt_refusal"] = str(reason)
        answered.set()

    def on_disconnect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if not answered.is_set():
            # a broker of AWS closes the connection of a client that its policy does not allow
            verdict["mqtt_refusal"] = f"it closes the connection without an answer ({reason})"
        answered.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, vehicle_id, clean_session=True)
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.tls_set_context(make_context(Credentials.of(broker)))
    client.connect_timeout = STEP_S
    try:
        client.connect(broker.host, broker.port, keepalive=broker.keep_alive_s)
        client.loop_start()
        if not answered.wait(STEP_S):
            verdict["mqtt_error"] = f"no answer to CONNECT in {STEP_S:g} s"
        client.disconnect()
    except (OSError, ValueError) as error:
        verdict["mqtt_error"] = str(error)
    finally:
        client.loop_stop()
    return verdict
